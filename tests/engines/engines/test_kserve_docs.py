"""What docs/kserve.md shows is run as it stands there, on other ports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT
from tests.engines.engines.kserve_running import free_ports
from tests.engines.reference import Reference

PAGE = (ROOT / "docs" / "kserve.md").read_text(encoding="utf-8")
D2SERVE = "import sys; from d2serve.cli.main import main; sys.argv[0] = 'd2serve'; main()"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@dataclass
class Shown:
    """The server that the page starts, and a folder with what its commands name."""

    folder: Path
    rest: int
    grpc: int

    def here(self, text: str) -> str:
        """The page's text with this server's ports."""
        return text.replace(":8080", f":{self.rest}").replace(":8081", f":{self.grpc}")

    def run(self, script: str) -> str:
        command = [sys.executable, "-c", self.here(script)]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def shown(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "model_store").mkdir()
    shutil.copy(reference.archive, folder / "model_store" / "shapes.mar")
    shutil.copy(reference.images[0], folder / "photo.jpg")
    (command,) = re.findall(r"^d2serve kserve (.*)$", "".join(blocks("bash")), re.MULTILINE)
    rest, grpc = free_ports(2)
    words = [f"shapes={command}", "--http-port", str(rest), "--grpc-port", str(grpc)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", D2SERVE, "kserve", *words],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + 120
        while f"Serving on http://127.0.0.1:{rest}" not in (folder / "log").read_text():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.2)
        yield Shown(folder, rest, grpc)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_curl(shown: Shown) -> None:
    (asked,) = (block for block in blocks("bash") if "curl" in block)
    done = subprocess.run(
        ["bash", "-c", shown.here(asked)], cwd=shown.folder, capture_output=True, check=True
    )
    (prediction,) = json.loads(done.stdout)["predictions"]
    assert len(prediction["instances"]) == 5


def test_python(shown: Shown, reference: Reference) -> None:
    triton, kserve = blocks("python")
    shapes = "print(boxes.shape[1], len(boxes))"
    told = shown.run(f"import numpy, tritonclient.grpc\nfrom pathlib import Path\n{triton}{shapes}")
    assert told == "4 5\n"
    begin = (
        "import asyncio, numpy\nfrom PIL import Image\nfrom kserve import *\n"
        "rgb = numpy.asarray(Image.open('photo.jpg').convert('RGB'))\nasync def main():\n"
    )
    inside = textwrap.indent(f"{kserve}{shapes}", "  ")
    sides, count = shown.run(f"{begin}{inside}\nasyncio.run(main())").split()
    expected = json.loads(reference.answers[reference.images[0].name])["instances"]
    assert (int(sides), int(count)) == (4, len(expected))


def test_every_status_of_the_table_is_one_that_tests_name() -> None:
    rows = re.findall(r"^\| .*? \| (\d{3}) \| ([A-Z_]+) \|$", PAGE, re.MULTILINE)
    tests = "".join(each.read_text() for each in Path(__file__).parent.glob("test_kserve_r*.py"))
    assert len(rows) == 7
    for status, code in rows:
        assert status in tests or status == "503"
        assert f".{code}" in tests


def test_the_servers_health_is_where_the_page_says(shown: Shown) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/metrics"):
        assert path in PAGE
        assert httpx.get(f"http://127.0.0.1:{shown.rest}{path}").status_code == 200
