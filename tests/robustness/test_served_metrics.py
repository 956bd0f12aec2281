"""What Prometheus sees of requests of every kind, and what the log says of an id."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from d2serve.client.connection.credentials import KeyFile
from d2serve.handlers.errors import RequestError
from d2serve.handlers.torchserve.metrics import HISTOGRAM, METRICS
from d2serve.handlers.torchserve.request_line import LOG_FORMAT
from d2serve.server.torchserve import launch
from d2serve.server.torchserve.config.ports import Ports
from d2serve.server.torchserve.config.properties import format_properties, read_properties
from d2serve.server.torchserve.directories import ServerDirectory, make_directory
from d2serve.server.torchserve.java import find_java
from d2serve.server.torchserve.logs.log_diagnosis import ServerLog
from d2serve.server.torchserve.logs.log_reader import LogReader
from d2serve.server.torchserve.process import TorchServeProcess
from tests.conftest import ROOT
from tests.handlers.programs import UNLUCKY
from tests.promql import (
    expressions_of_dashboard,
    expressions_of_pages,
    named,
    needs_a_gpu,
)
from tests.robustness.conftest import BATCH
from tests.robustness.grpc_calls import GrpcCalls
from tests.robustness.scraping import Scrape, scrape, scraped_until
from tests.robustness.sending import Sender, grey

pytestmark = pytest.mark.server

ANSWERED = "d2serve_encode_seconds_count"
REJECTED = "d2serve_rejected_total"


@pytest.fixture(scope="module")
def sender(server: TorchServeProcess) -> Iterator[Sender]:
    made = Sender(server)
    with made.http:
        yield made


def handled(page: Scrape, model: str) -> float:
    """Requests that the handler has answered in whatever way."""
    return page.of(ANSWERED, model_name=model) + page.of(REJECTED, model_name=model)


def settled(server: TorchServeProcess) -> Scrape:
    """When what other tests have sent is counted, which comes after the replies."""
    while True:
        page = scrape(server.metrics_address)
        time.sleep(0.3)
        if handled(scrape(server.metrics_address), "shapes") == handled(page, "shapes"):
            return page


def line_of(server: TorchServeProcess, request_id: str) -> str:
    """What the log of the workers says of a request."""
    log = (server.log_directory / "model_log.log").read_text()
    (line,) = re.findall(rf"MODEL_LOG - (d2serve: {request_id} .*)", log)
    return str(line)


def test_requests_of_every_kind_are_counted(server: TorchServeProcess, sender: Sender) -> None:
    before = scraped_until(
        server.metrics_address, lambda page: page.of(REJECTED, model_name="shapes") >= 0
    )
    good = sender.image(grey(51))
    drawn = sender.form(grey(51), draw="png")
    bad = [sender.image(b"bad"), sender.image(grey(UNLUCKY)), sender.form(grey(9), masks="some")]
    assert [each.status_code for each in (good, drawn, *bad)] == [200, 200, 415, 500, 400]
    with ThreadPoolExecutor(BATCH) as pool:
        batch = list(pool.map(sender.image, [grey(51)] * BATCH))
    assert {each.status_code for each in batch} == {200}
    sent = 5 + BATCH
    after = scraped_until(
        server.metrics_address,
        lambda page: handled(page, "shapes") >= handled(before, "shapes") + sent,
    )

    def grown(name: str, **labels: str) -> float:
        own = {"model_name": "shapes", "model_version": "1.0", **labels}
        return round(after.of(name, **own) - before.of(name, **own), 6)

    answered = 2 + BATCH
    for step in ("decode", "preprocess", "postprocess", "encode"):
        assert grown(f"d2serve_{step}_seconds_count") == answered
        assert grown(f"d2serve_{step}_seconds_sum") > 0
    assert grown("d2serve_detections_count") == answered == grown("d2serve_detections_sum")
    assert grown("d2serve_image_megapixels_count") == answered
    assert grown("d2serve_image_megapixels_sum") == pytest.approx(600e-6 * answered, rel=1e-3)
    calls = grown("d2serve_forward_seconds_count")
    assert 3 <= calls <= answered
    assert grown("d2serve_batch_images_count") == calls
    assert grown("d2serve_batch_images_sum") == answered
    codes = {kind.code: grown(REJECTED, code=kind.code) for kind in RequestError.__subclasses__()}
    once = ("unsupported_image_format", "model_failed", "invalid_option")
    assert codes == {code: float(code in once) for code in codes}
    assert after.of("ts_inference_requests_total", model_name="shapes") >= sent


def test_every_metric_has_its_name_type_and_labels(
    server: TorchServeProcess, sender: Sender
) -> None:
    assert sender.image(grey(51)).status_code == 200
    scraped_until(server.metrics_address, lambda page: page.of(ANSWERED, model_name="shapes") > 0)
    page = httpx.get(f"{server.metrics_address}/metrics", trust_env=False).text
    types = dict(re.findall(r"^# TYPE (d2serve_\w+) (\w+)$", page, re.MULTILINE))
    assert types == {metric.name: metric.kind for metric in METRICS}
    for metric in METRICS:
        sample = f"{metric.name}_count" if metric.kind == HISTOGRAM else metric.name
        labels = {name for key, has in Scrape(page).values if key == sample for name, _ in has}
        assert labels == {*metric.labels, "Hostname"}


def test_pages_and_dashboard_name_what_there_is(server: TorchServeProcess, sender: Sender) -> None:
    """After a refusal and a failure, without which TorchServe has not all of its own."""
    assert sender.image(b"bad").status_code == 415
    assert sender.image(grey(UNLUCKY)).status_code == 500
    assert sender.image(grey(51)).status_code == 200
    page = scraped_until(
        server.metrics_address,
        lambda page: page.of(ANSWERED, model_name="shapes") > 0 and bool(page.of("Requests5XX")),
    )
    labels: dict[str, set[str]] = {}
    for metric, has in page.values:
        labels.setdefault(metric, set()).update(name for name, _ in has)
    for expression in (*expressions_of_pages(), *expressions_of_dashboard().values()):
        if not needs_a_gpu(expression):
            found = named(expression)
            assert found.metrics <= set(labels), expression
            for metric in found.metrics:
                assert found.labels <= labels[metric], (expression, metric)


def test_an_id_leads_from_the_reply_to_the_log(server: TorchServeProcess, sender: Sender) -> None:
    good, bad, failed = (sender.image(each) for each in (grey(51), b"bad", grey(UNLUCKY)))
    for reply in (good, bad, failed):
        assert reply.json()["request_id"] == reply.headers["x-request-id"]
    drawn = sender.form(grey(51), draw="jpeg").headers["x-request-id"]
    scraped_until(
        server.metrics_address,
        lambda _: drawn in (server.log_directory / "model_log.log").read_text(),
    )
    assert " answered: 30x20, 1 found, " in line_of(server, good.headers["x-request-id"])
    assert " answered: 30x20, 1 found, " in line_of(server, drawn)
    assert line_of(server, bad.headers["x-request-id"]).endswith(
        " refused: 415 unsupported_image_format"
    )
    assert " failed: 500 model_failed: " in line_of(server, failed.headers["x-request-id"])


def test_ids_over_grpc(server: TorchServeProcess) -> None:
    calls = GrpcCalls(server)
    for reply in (calls.predict(data=grey(51)), calls.predict(data=b"bad"), calls.infer(grey(51))):
        assert re.fullmatch(r"[0-9a-f-]{36}", reply["request_id"])


def test_torchserves_log_takes_no_offence(server: TorchServeProcess) -> None:
    """A line that it cannot take apart, or has no metric for, would be an error there."""
    log = (server.log_directory / "ts_log.log").read_text()
    assert "Failed to parse metrics line" not in log
    assert "Failed to update" not in log


@pytest.fixture
def shapes(server: TorchServeProcess) -> Path:
    """The archive that the server has under this name."""
    return next(model.archive for model in server.models if model.name == "shapes")


@contextmanager
def plain_torchserve(
    shapes: Path, environment: dict[str, str], *arguments: str
) -> Iterator[tuple[Ports, list[str], ServerDirectory]]:
    """As the README starts it, in a directory that has config.properties and metrics.yaml.

    Its ports, the lines that it writes, and its directory.
    """
    ports = Ports.free()
    directory = make_directory()
    config = {**read_properties(ROOT / "config.properties"), **ports.settings()}
    (directory.path / "config.properties").write_text(format_properties(config))
    shutil.copy(ROOT / "metrics.yaml", directory.path)
    process = launch.spawn(
        directory.path,
        launch.server_environment(
            os.environ, environment, find_java({**os.environ}), directory.path
        ),
        [
            *("--ts-config=config.properties", f"--model-store={shapes.parent}"),
            *("--models=shapes.mar", *arguments),
        ],
    )
    lines: list[str] = []
    try:
        assert process.stdout is not None
        LogReader(ServerLog(), lines.append).follow(process.stdout)
        yield ports, lines, directory
    finally:
        launch.end(process, directory.path)
        directory.remove()


def test_plain_torchserve_with_the_repositorys_files(shapes: Path) -> None:
    with plain_torchserve(shapes, {}) as (ports, lines, _):
        page = scraped_until(
            ports.address("metrics"), lambda page: REJECTED in page.names, seconds=90
        )
        assert page.of(REJECTED, model_name="shapes", model_version="1.0") == 0
        log = ServerLog()
        for line in lines:
            log.feed(line)
        assert log.dying_worker(1) is None


@pytest.mark.long
def test_plain_torchserve_with_our_log4j2(shapes: Path) -> None:
    file = f"--log-config={ROOT / 'deploy' / 'torchserve' / 'log4j2.xml'}"
    with plain_torchserve(shapes, {LOG_FORMAT: "json"}, file) as (ports, lines, directory):
        scraped_until(ports.address("metrics"), lambda page: REJECTED in page.names, seconds=90)
        key = KeyFile(directory.path / "key_file.json").inference
        reply = httpx.post(
            f"{ports.address('inference')}/predictions/shapes",
            content=grey(51),
            headers={"authorization": f"Bearer {key}", "content-type": "image/png"},
            trust_env=False,
            timeout=60,
        )
        assert reply.status_code == 200
        deadline = time.monotonic() + 20
        while not (of_requests := [each for each in lines if '"d2serve: {' in each]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert not (directory.path / "logs").exists()
    (request,) = of_requests
    fields = json.loads(json.loads(request)["message"].removeprefix("d2serve: "))
    assert fields["request_id"] == reply.headers["x-request-id"]
    objects = [json.loads(line) for line in lines if line.startswith("{")]
    assert len(lines) - len(objects) <= 4, "Java's own words at the start"
    for each in objects:
        assert list(each) == ["time", "level", "logger", "source", "message"]
        datetime.fromisoformat(each["time"].replace("Z", "+00:00"))
    accessed = [each["message"] for each in objects if each["logger"] == "ACCESS_LOG"]
    assert any("/predictions/shapes" in each for each in accessed)


def test_an_archive_in_a_server_without_our_metrics_file(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "config.properties").write_text("default_workers_per_model=1\n")
    with TorchServeProcess([shapes], config=tmp_path / "config.properties") as server:
        sender = Sender(server)
        replies = [sender.image(each) for each in (grey(51), b"bad")]
        assert [each.status_code for each in replies] == [200, 415]
        scraped_until(
            server.metrics_address,
            lambda _: " refused: 415" in (server.log_directory / "model_log.log").read_text(),
        )
        for reply in replies:
            assert line_of(server, reply.headers["x-request-id"])
        logs = "".join(file.read_text() for file in server.log_directory.iterdir())
        assert "d2serve_" not in logs
        assert "Failed to update" not in logs
        assert not any(name.startswith("d2serve_") for name in scrape(server.metrics_address).names)
