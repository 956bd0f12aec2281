"""``d2serve label-studio``, as docs/label_studio.md has it."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from d2serve.cli.app import app
from tests.client.answering_archives import answering_archive
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "label_studio.md"


def test_the_command_of_the_page(tmp_path: Path) -> None:
    answering_archive(tmp_path / "shapes.mar")
    found = re.search(r"```bash\nd2serve (label-studio .*)\n```", PAGE.read_text(encoding="utf-8"))
    assert found is not None
    main = "from d2serve.cli.main import main; main()"
    command = [sys.executable, "-c", main, *shlex.split(found[1]), "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            address = re.search(r"http://\S+", ready)
            assert address is not None, ready
            assert httpx.get(f"{address[0]}/health").json()["status"] == "UP"
            setup = httpx.post(f"{address[0]}/setup", json={"schema": ""})
            assert setup.json() == {"model_version": "shapes-2.0"}
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.mar"], "none.mar"),
        (["shapes.mar", "--host", "0.0.0.0"], "BASIC_AUTH_USER"),
        (["shapes.mar", "--label-studio", "localhost"], "with its scheme"),
        (["shapes.mar", "--port", "99999"], "port 99999"),
        (["shapes", "--address", "http://127.0.0.1:1"], "127.0.0.1:1"),
    ],
)
def test_what_cannot_be_answered(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering_archive(tmp_path / "shapes.mar")
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, ["label-studio", *arguments])
    assert ran.exit_code == 1
    assert message in ran.stderr.replace("\n", "")
