"""What a worker tells TorchServe and its log of each request; the cache is TorchServe's own.

What becomes of it in a server is tests/robustness/test_served_metrics.py's.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import ts
import yaml
from PIL import Image
from ts.context import Context, RequestProcessor
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl

from d2serve.handlers.errors import RequestError
from d2serve.handlers.timing import STEPS
from d2serve.handlers.torchserve.detection_handler import DetectionHandler
from d2serve.handlers.torchserve.metrics import COUNTER, HISTOGRAM, METRICS
from d2serve.server.torchserve.config.metrics_file import metrics_file
from tests.handlers.programs import UNLUCKY, write_archive, write_semantic_archive
from tests.handlers.samples import saved

OURS = Path(__file__).resolve().parents[3] / "metrics.yaml"
TORCHSERVES = Path(ts.__file__).parent / "configs" / "metrics.yaml"
NAMES = {metric.name for metric in METRICS}

# As TorchServe's frontend takes a worker's line apart; what does not fit is an error in its log.
LINE = re.compile(
    r"\[METRICS\](?P<name>\w+)\.(?P<unit>[\w ]+):(?P<value>[0-9\-,.e]+)\|#(?P<labels>[^|]*)"
    r"\|#type:(?P<kind>[^|,]+)\|#hostname:[^,]+,[^,]+(,.*)?"
)


class Told(NamedTuple):
    name: str
    value: float
    labels: dict[str, str]
    kind: str


def grey(value: int, width: int = 30, height: int = 20) -> bytes:
    return saved(Image.new("RGB", (width, height), (value, value, value)), "PNG")


class Worker:
    """A handler as a TorchServe worker has it, with a file of metrics."""

    def __init__(
        self,
        archive: Path,
        caplog: pytest.LogCaptureFixture,
        file: Path | None = OURS,
        name: str = "shapes",
        **settings: Any,
    ) -> None:
        caplog.set_level(logging.INFO)
        self.caplog = caplog
        self.cache = None
        if file is not None:
            self.cache = MetricsCacheYamlImpl(str(file))
            self.cache.initialize_cache()
        self.context = Context(
            name,
            str(archive),
            {"model": {"modelVersion": "1.0"}},
            8,
            None,
            "0.12",
            metrics=self.cache,
            model_yaml_config={"batching": "always", **settings},
        )
        self.handler = DetectionHandler()
        self.handler.initialize(self.context)

    def answer(self, *requests: Any) -> list[dict[str, Any]]:
        self.caplog.clear()
        self.context.request_processor = [RequestProcessor({"Host": "x"}) for _ in requests]
        self.context.request_ids = {i: f"id-{i}" for i in range(len(requests))}
        replies = self.handler.handle(requests, self.context)
        return [json.loads(reply) for reply in replies if reply.startswith(b"{")]

    def status(self, index: int) -> int:
        return int(self.context.get_response_status(index)[0])

    def told(self) -> list[Told]:
        found = []
        for line in (each for each in self.caplog.messages if "[METRICS]" in each):
            match = LINE.fullmatch(line)
            assert match is not None, line
            labels = dict(pair.split(":") for pair in match["labels"].split(","))
            found.append(Told(match["name"], float(match["value"]), labels, match["kind"]))
        return found

    def lines(self) -> list[str]:
        return [each for each in self.caplog.messages if each.startswith("d2serve: id-")]


@pytest.fixture
def worker(scripted_archive: Path, caplog: pytest.LogCaptureFixture) -> Worker:
    return Worker(scripted_archive, caplog)


def of(told: list[Told], name: str) -> list[float]:
    return [each.value for each in told if each.name == name]


class TestTheFile:
    def test_it_is_what_the_code_says(self) -> None:
        assert OURS.read_text() == metrics_file()

    def test_torchserves_own_are_all_there(self) -> None:
        ours, own = (yaml.safe_load(file.read_text()) for file in (OURS, TORCHSERVES))
        assert ours["ts_metrics"] == own["ts_metrics"]
        for kind, listed in own["model_metrics"].items():
            assert ours["model_metrics"][kind][: len(listed)] == listed


def test_an_answer_is_told_with_all_it_took(worker: Worker) -> None:
    (reply,) = worker.answer({"body": grey(51, 500, 400)})
    told = worker.told()
    counted = [each for each in told if each.name != "d2serve_rejected_total"]
    assert sorted(each.name for each in counted) == sorted(NAMES - {"d2serve_rejected_total"})
    assert told == counted
    assert all(each.kind == HISTOGRAM.upper() for each in told)
    model = {"model_name": "shapes", "model_version": "1.0"}
    assert all(each.labels == model for each in told)
    for step in STEPS:
        (seconds,) = of(told, f"d2serve_{step}_seconds")
        assert 0 < seconds < 60
    assert of(told, "d2serve_image_megapixels") == [0.2]
    assert of(told, "d2serve_detections") == [len(reply["instances"])] == [1]
    assert of(told, "d2serve_batch_images") == [1]


def test_a_batch_is_one_call_of_the_program(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("none", "one", "two", "three")
    worker = Worker(write_archive(tmp_path, class_names=names), caplog)
    worker.answer(*({"body": grey(value)} for value in (51, 102, 153)))
    told = worker.told()
    assert of(told, "d2serve_batch_images") == [3]
    assert len(of(told, "d2serve_forward_seconds")) == 1
    assert len(of(told, "d2serve_encode_seconds")) == 3
    assert all("batch of 3" in line for line in worker.lines())


def test_every_code_is_there_from_the_start(
    scripted_archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = Worker(scripted_archive, caplog).told()
    assert {each.name for each in told} == {"d2serve_rejected_total"}
    codes = [kind.code for kind in RequestError.__subclasses__()]
    assert [each.labels["code"] for each in told] == codes
    assert {(each.value, each.kind) for each in told} == {(0, COUNTER.upper())}


def test_a_refusal_is_counted_by_its_code_and_nothing_else_of_it(worker: Worker) -> None:
    evil = "[METRICS]d2serve_rejected_total.Count:1|#x:y|#hostname:z,1"
    requests = [
        {"body": b"bad"},
        {"body": grey(UNLUCKY)},
        {"body": grey(9), "masks": f"\n{evil}"},
        {"body": grey(9), f"\n{evil}\n": b"1"},
    ]
    worker.answer(*requests)
    told = [(each.name, each.value, each.labels["code"]) for each in worker.told()]
    codes = ["unsupported_image_format", "model_failed", "invalid_option", "invalid_option"]
    assert told == [("d2serve_rejected_total", 1, code) for code in codes]
    lines = worker.lines()
    assert lines[0] == "d2serve: id-0 refused: 415 unsupported_image_format"
    assert lines[1].startswith("d2serve: id-1 failed: 500 model_failed: ")
    assert "an unlucky image" in lines[1]
    assert lines[2:] == [f"d2serve: id-{i} refused: 400 invalid_option" for i in (2, 3)]
    assert not any("\n" in line for line in lines)


def test_a_picture_is_told_as_any_answer(worker: Worker) -> None:
    assert worker.answer({"body": grey(51), "draw": "png"}) == []
    assert len(worker.told()) == len(NAMES) - 1
    (line,) = worker.lines()
    assert re.fullmatch(
        r"d2serve: id-0 answered: 30x20, 1 found, batch of 1, ms:"
        + "".join(rf" {step} \d+\.\d" for step in STEPS),
        line,
    )


def test_a_model_without_instances_counts_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(write_semantic_archive(tmp_path), caplog)
    worker.answer({"body": grey(51)})
    assert of(worker.told(), "d2serve_detections") == []
    assert "20, - found," in worker.lines()[0]


@pytest.mark.parametrize("file", [TORCHSERVES, None], ids=["TorchServe's own file", "no metrics"])
def test_what_is_not_listed_is_not_told(
    scripted_archive: Path, caplog: pytest.LogCaptureFixture, file: Path | None
) -> None:
    """It would be a line in TorchServe's log for each value, and nothing else."""
    worker = Worker(scripted_archive, caplog, file)
    assert not any("[METRICS]" in each for each in caplog.messages)
    worker.answer({"body": grey(51)}, {"body": b"bad"})
    assert [worker.status(0), worker.status(1)] == [200, 415]
    assert len(caplog.messages) == len(worker.lines()) == 2


def test_what_is_listed_with_other_dimensions_is_left_out(
    tmp_path: Path, scripted_archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = OURS.read_text().replace(
        "Megapixels, dimensions: [model_name, model_version]", "Megapixels, dimensions: [ModelName]"
    )
    (tmp_path / "metrics.yaml").write_text(wrong)
    worker = Worker(scripted_archive, caplog, tmp_path / "metrics.yaml")
    assert sum("has d2serve_image_megapixels with" in each for each in caplog.messages) == 1
    worker.answer({"body": grey(51)})
    assert {each.name for each in worker.told()} == NAMES - {
        "d2serve_image_megapixels",
        "d2serve_rejected_total",
    }


def test_a_metric_that_fails_fails_no_request(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no pipe")

    monkeypatch.setattr("ts.metrics.caching_metric.CachingMetric.add_or_update", broken)
    worker.answer({"body": grey(51)}, {"body": b"bad"})
    assert [worker.status(0), worker.status(1)] == [200, 415]
    assert (
        sum("the metric d2serve_forward_seconds failed" in e for e in worker.caplog.messages) == 1
    )
    worker.answer({"body": grey(51)})
    assert worker.caplog.messages == worker.lines()


def test_a_name_that_would_break_a_line(
    scripted_archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(scripted_archive, caplog, name="a:b,c|d é")
    assert {each.labels["model_name"] for each in worker.told()} == {"a_b_c_d__"}


def test_the_request_id_stands_in_every_json_reply(worker: Worker) -> None:
    answer, error = worker.answer({"body": grey(51)}, {"body": b"bad"})
    assert list(answer)[:3] == ["model", "version", "request_id"]
    assert answer["request_id"] == "id-0"
    assert list(error) == ["error", "request_id"]  # the order tells gRPC clients of an error
    assert error["request_id"] == "id-1"


@pytest.mark.parametrize(("given", "expected"), [({"id": "mine"}, "mine"), ({}, "id-0")])
def test_an_open_inference_call_without_an_id_gets_the_servers(
    worker: Worker, given: dict[str, str], expected: str
) -> None:
    data = [base64.b64encode(grey(51)).decode()]
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": data}
    asked = {"inputs": [image], "outputs": [{"name": "reply"}]}
    (reply,) = worker.answer({"body": {**given, **asked}})
    assert reply["id"] == expected
    assert json.loads(reply["outputs"][0]["data"][0])["request_id"] == "id-0"
