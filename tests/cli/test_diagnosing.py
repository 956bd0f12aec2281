"""``d2serve doctor`` as a user runs it: a model's config, a server's, or both."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from d2serve.cli.app import app
from tests.conftest import ROOT, config_of

RUNNER = CliRunner()


def test_a_model_is_diagnosed() -> None:
    result = RUNNER.invoke(app, ["doctor", "--config-file", str(config_of("rpn_fpn"))])
    assert result.exit_code == 0, result.output
    assert "exports with rewrites" in result.output
    assert "modeling/meta_arch/rcnn.py" in result.output


def test_what_cannot_be_exported_at_all_is_an_error() -> None:
    zoo = "COCO-Detection/fast_rcnn_R_50_FPN_1x.yaml"
    result = RUNNER.invoke(app, ["doctor", "--config-file", zoo])
    assert result.exit_code == 1


def test_the_projects_own_settings_open_nothing() -> None:
    result = RUNNER.invoke(app, ["doctor", "--ts-config", str(ROOT / "config.properties")])
    assert result.exit_code == 0, result.output
    assert "opens nothing" in result.output


def test_settings_that_open_the_server_are_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "config.properties"
    file.write_text("management_address=http://0.0.0.0:8081\ndisable_token_authorization=true\n")
    result = RUNNER.invoke(app, ["doctor", "--ts-config", str(file)])
    assert result.exit_code == 0, result.output
    assert result.output.count("Warning:") >= 2
    assert "management_address" in result.output
    assert "token" in result.output


def test_settings_with_which_no_worker_starts_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.properties"
    file.write_text((ROOT / "config.properties").read_text())
    monkeypatch.chdir(tmp_path)
    result = RUNNER.invoke(app, ["doctor", "--ts-config", str(file)])
    assert "Warning: There is no metrics file metrics.yaml" in result.output
    (tmp_path / "metrics.yaml").write_text((ROOT / "metrics.yaml").read_text())
    result = RUNNER.invoke(app, ["doctor", "--ts-config", str(file)])
    assert "Warning" not in result.output


def test_nothing_to_look_at_is_an_error() -> None:
    assert RUNNER.invoke(app, ["doctor"]).exit_code == 1
