"""What is to be served on Ray Serve is judged before Ray is started, and without it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from d2serve.handlers.spec.limits import RequestLimits
from d2serve.handlers.spec.model_spec import SPEC_FILE
from d2serve.server.ray_serve.settings import (
    Replicas,
    Settings,
    WrongSettings,
    body_bytes,
    read_models,
)
from tests.cli.small_archives import small_spec


def extracted(folder: Path, name: str = "shapes", version: str | None = None) -> str:
    folder.mkdir()
    spec = replace(small_spec(name), limits=RequestLimits(max_image_bytes=1000))
    (folder / SPEC_FILE).write_text(spec.to_json())
    if version is not None:
        (folder / "MAR-INF").mkdir()
        manifest = {"model": {"modelVersion": version}}
        (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    return str(folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3", Replicas(3, 3)), ("1:10", Replicas(1, 10)), (" 2:2 ", Replicas(2, 2))],
)
def test_replicas(text: str, expected: Replicas) -> None:
    assert Replicas.parse(text) == expected


@pytest.mark.parametrize("text", ["", "0", "0:2", "3:2", "-1", "1:", "one", "1:2:3", "99999"])
def test_replicas_that_cannot_be(text: str) -> None:
    with pytest.raises(WrongSettings, match="replicas, expected a number such as 2"):
        Replicas.parse(text)


def test_archives_say_their_names_and_versions(tmp_path: Path) -> None:
    one = extracted(tmp_path / "one")
    given = [one, extracted(tmp_path / "two", version="2.0"), f"mine={one}"]
    models = read_models(given, Settings())
    assert [each.key for each in models] == ["shapes/1.0", "shapes/2.0", "mine/1.0"]
    assert [each.deployment for each in models] == ["shapes-1.0", "shapes-2.0", "mine-1.0"]
    assert body_bytes(models) == 2000


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"batching": "often"}, "expected one of auto, always, never"),
        ({"batching": "always"}, "takes one image at a time"),
        ({"cpus_per_replica": 0}, "expected 0.1 to 1024"),
        ({"gpus_per_replica": -1}, "a part of one"),
        ({"gpus_per_replica": 1.5}, "a part of one"),
        ({"batch_size": 0}, "expected 1 to 1024"),
    ],
)
def test_settings_that_cannot_be(changed: dict[str, object], told: str, tmp_path: Path) -> None:
    with pytest.raises(WrongSettings, match=told):
        read_models([extracted(tmp_path / "one")], replace(Settings(), **changed))  # type: ignore[arg-type]


def test_archives_that_cannot_be(tmp_path: Path) -> None:
    one = extracted(tmp_path / "one")
    with pytest.raises(WrongSettings, match="Got no archives"):
        read_models([], Settings())
    with pytest.raises(WrongSettings, match=r"are both shapes 1\.0"):
        read_models([one, one], Settings())
    with pytest.raises(WrongSettings, match="at the same path on every machine"):
        read_models([str(tmp_path / "none.mar")], Settings())
    with pytest.raises(WrongSettings, match="Give it another name"):
        read_models([extracted(tmp_path / "odd", version="2 0")], Settings())
