"""``d2serve serve --page`` as an operator runs it: what is printed works, and goes on working while
models are upgraded and removed, and the server ends and comes back."""

from __future__ import annotations

import json
import re
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from d2serve.cli.app import app
from d2serve.client.management import ManagementClient
from d2serve.server.page.server import DEFAULT_PORT
from d2serve.server.torchserve.config.ports import Ports
from tests.cli.small_archives import small_archive
from tests.conftest import ROOT, Exporter
from tests.deploy.proxy.browser import Browser, needs_chromium
from tests.faults.conftest import Operator, canned, operator, wait_until_serving
from tests.server.page.opened import OpenedPage

__all__ = ["canned", "operator"]

SAMPLE = ROOT / "examples" / "shapes" / "sample.jpg"
DOCS = (ROOT / "docs" / "try_it.md").read_text()


def test_a_page_port_that_is_taken_is_said_in_a_line(tmp_path: Path) -> None:
    archive, ports = small_archive(tmp_path / "x.mar"), Ports.free()
    for given, told in (
        (ports.inference, "that of the page and that of inference"),
        (0, "page-port"),
    ):
        options = [f"--inference-port={ports.inference}", f"--page-port={given}", "--probe-port=0"]
        result = CliRunner().invoke(app, ["serve", str(archive), *options])
        assert result.exit_code != 0
        assert told in result.output
        assert "Traceback" not in result.output


def page_address(said: str) -> str:
    (address,) = re.findall(r"^  page        (http://127\.0\.0\.1:\d+/#\S+) \(", said, re.MULTILINE)
    return str(address)


def renumbered(archive: Path, version: str, target: Path) -> Path:
    """The same archive as a version of ``shapes``."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as made:
        for item in source.infolist():
            content = source.read(item)
            if item.filename == "MAR-INF/MANIFEST.json":
                manifest = json.loads(content)
                manifest["model"] |= {"modelName": "shapes", "modelVersion": version}
                content = json.dumps(manifest).encode()
            made.writestr(item, content)
    return target


@pytest.fixture
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture
def shapes(operator: Operator, exported: Exporter) -> Path:
    """A Mask R-CNN, the only archive of the operator's store."""
    for other in operator.store.glob("*.mar"):
        other.unlink()
    source = exported("mask_rcnn_fpn", "onnxruntime")
    return renumbered(source, "1.0", operator.store / "shapes.mar")


def documented(port: int) -> list[str]:
    """The arguments of docs/try_it.md's command, at another port."""
    (line,) = re.findall(r"^d2serve serve (.*)$", DOCS, re.MULTILINE)
    assert str(DEFAULT_PORT) in DOCS
    return [*line.split(), f"--page-port={port}"]


@pytest.mark.long
@pytest.mark.server
@needs_chromium
def test_a_model_that_is_upgraded_and_removed_while_the_page_is_open(
    operator: Operator, shapes: Path, browser: Browser, tmp_path: Path
) -> None:
    port = Ports.free().inference
    serving = operator.start(*operator.serve(*documented(port)))
    said = wait_until_serving(serving)
    page = OpenedPage(browser, page_address(said))
    photo = SAMPLE.read_bytes()
    assert "answered by shapes 1.0" in page.drop(photo, "sample.jpg")
    assert len(page.found()) >= 5

    second = renumbered(shapes, "2.0", tmp_path / "shapes-2.0.mar")
    upgrading = operator.start("upgrade", "shapes", str(second), f"--image={SAMPLE}")
    answered: list[str] = []
    while upgrading.poll() is None:
        answered.append(page.drop(photo, f"{len(answered)}.jpg"))
        assert page.run("return document.getElementById('error').hidden"), page.text("error")
    assert upgrading.returncode == 0, upgrading.communicate()
    assert len(answered) >= 3
    assert all("answered by shapes" in each for each in answered)

    page.wait_for("document.getElementById('version').textContent === 'default (2.0)2.0'")
    assert "answered by shapes 2.0" in page.drop(photo, "after.jpg")
    page.choose("version", "2.0")
    page.wait_for("/answered by shapes 2.0/.test(document.getElementById('status').textContent)")

    with ManagementClient(
        f"127.0.0.1:{operator.ports.management}", key_file=operator.folder / "key_file.json"
    ) as management:
        management.register("shapes.mar", model_name="other")
        page.wait_for("document.getElementById('model').length === 2")
        assert page.run("return document.getElementById('version').value") == "2.0", "it stays"
        management.unregister("shapes", "2.0")
        page.wait_for("document.getElementById('model').value === 'other'")
        page.wait_for("/answered by other 1.0/.test(document.getElementById('status').textContent)")
        management.unregister("other", "1.0")
        page.wait_for(
            "/No model is registered/.test(document.getElementById('trouble').textContent)"
        )


@pytest.mark.long
@pytest.mark.server
@needs_chromium
def test_a_server_that_ends_and_comes_back(
    operator: Operator, shapes: Path, browser: Browser
) -> None:
    assert shapes.is_file()
    port = Ports.free().inference
    command = operator.serve(*documented(port))
    serving = operator.start(*command)
    first = page_address(wait_until_serving(serving))
    page = OpenedPage(browser, first)
    page.drop(SAMPLE.read_bytes(), "sample.jpg")
    found = page.found()
    serving.send_signal(signal.SIGTERM)
    output, errors = serving.communicate(timeout=120)
    assert serving.returncode == 0, (output, errors)
    page.wait_for("/has ended/.test(document.getElementById('trouble').textContent)")
    assert page.found() == found, "what was seen is still there"

    again = operator.start(*command)
    second = page_address(wait_until_serving(again))
    assert second != first
    page.wait_for("/Open the address/.test(document.getElementById('trouble').textContent)")
    browser.open(second)  # differs behind the # only: the page goes on
    page.wait_for("document.getElementById('trouble').hidden")
    assert page.found() == found
    assert "answered by shapes 1.0" in page.drop(SAMPLE.read_bytes(), "again.jpg")


@pytest.mark.long
@pytest.mark.server
def test_without_the_option_there_is_none(operator: Operator, shapes: Path) -> None:
    assert shapes.is_file()
    serving = operator.start(*operator.serve("shapes.mar"))
    assert "page  " not in wait_until_serving(serving)
    connections = psutil.Process(serving.pid).net_connections("inet")
    listening = {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
    assert listening == {operator.probe_port}
