"""What was registered survives a stop and a kill: `d2serve serve --state`."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from d2serve.client import D2ServeClient, ManagementClient
from d2serve.handlers.torchserve import torch_stand_in
from tests.client.conftest import CANNED_HANDLER, DYING_HANDLER, make_archive
from tests.faults.conftest import Operator, wait_for, wait_until_serving


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with version 2.0 of canned, and a 3.0 whose workers die."""
    folder = tmp_path_factory.mktemp("more") / "more"
    folder.mkdir()
    for made in (
        make_archive(folder, "canned2", CANNED_HANDLER, "2.0"),
        make_archive(folder, "canned3", DYING_HANDLER, "3.0"),
    ):
        with zipfile.ZipFile(made, "a") as archive:  # its workers are sooner there without torch
            archive.write(torch_stand_in.__file__, "torch.py")
    return folder


def serve(operator: Operator, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = operator.start(*operator.serve("--state=state.json", *arguments))
    return process, wait_until_serving(process)


def kept(operator: Operator) -> list[dict[str, Any]]:
    models: list[dict[str, Any]] = json.loads((operator.folder / "state.json").read_text())[
        "models"
    ]
    return models


def management_of(operator: Operator) -> ManagementClient:
    return ManagementClient(
        operator.ports.address("management"), key_file=operator.folder / "key_file.json"
    )


def versions(operator: Operator) -> list[tuple[str, int, int]]:
    """Version, workers and batch size of what is served, the default version first."""
    with management_of(operator) as management:
        (default,) = management.describe("canned")
        every = management.describe("canned", "all")
    every.sort(key=lambda each: each.version != default.version)
    return [(each.version, each.max_workers, each.batch_size) for each in every]


def test_what_was_registered_is_served_after_a_kill_and_after_a_stop(
    operator: Operator, more: Path
) -> None:
    process, _ = serve(operator, "canned.mar")
    shutil.copy(more / "canned2.mar", operator.store)
    shutil.copy(more / "canned3.mar", operator.store)
    assert [each["version"] for each in kept(operator)] == ["1.0"]
    with management_of(operator) as management:
        management.register("canned2.mar", model_name="canned", batch_size=3)
        management.set_default("canned", "2.0")
        management.scale("canned", version="1.0", min_worker=0)
        management._status(  # workers that die: this version must not keep the next start away
            "POST",
            "/models",
            {"url": "canned3.mar", "model_name": "canned", "synchronous": "false"},
        )
    wait_for(lambda: [each["max_workers"] for each in kept(operator)] == [1, 0])
    process.kill()
    process.communicate(timeout=60)

    process, said = serve(operator, "canned.mar")
    assert "canned: 2.0 answers where a request names no version" in said
    assert versions(operator) == [("2.0", 1, 3), ("1.0", 0, 1)]
    address, key_file = operator.ports.address("inference"), operator.folder / "key_file.json"
    with D2ServeClient(address, key_file=key_file) as client:
        assert client.predict("canned", b"1").version == "2.0"
    with management_of(operator) as management:
        management.unregister("canned", "1.0")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "is served again" in errors
    assert [(each["version"], each["is_default"]) for each in kept(operator)] == [("2.0", True)]


@pytest.mark.server
def test_an_archive_that_is_gone_is_named_before_java_starts(
    operator: Operator, tmp_path: Path
) -> None:
    gone = operator.store / "canned2.mar"
    state = {
        "name": "canned",
        "version": "2.0",
        "is_default": True,
        "archive": str(gone),
        **dict.fromkeys(("min_workers", "max_workers", "batch_size", "max_batch_delay"), 1),
        **dict.fromkeys(("response_timeout", "startup_timeout"), 60),
    }
    content = {"d2serve_state": 1, "given": [], "models": [state]}
    (tmp_path / "state.json").write_text(json.dumps(content))
    process = operator.start(*operator.serve("--state=state.json"))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert str(gone) in errors
    assert "Traceback" not in errors
    assert operator.directories() == []


@pytest.mark.server
def test_a_state_that_cannot_be_written_ends_the_start(operator: Operator) -> None:
    process = operator.start(*operator.serve("--state=nowhere/state.json"))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "The state nowhere/state.json cannot be written" in errors
    assert operator.directories() == []
