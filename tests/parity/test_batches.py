"""Batches: each item has its own fate, and the reference is eager detectron2 on the same batch."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from d2serve.client.errors import RequestRejected
from d2serve.client.results.prediction import parse_prediction
from d2serve.export.archive.opening import opened
from d2serve.export.archive.staging import CONFIG_FILE
from d2serve.export.proof.comparing.comparison import compare
from d2serve.export.proof.oracle import Oracle
from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.spec.bounds import TORCHSCRIPT_BOUNDS
from d2serve.server.torchserve.process import TorchServeProcess
from tests.conftest import Exporter, HeldOut

CLIENTS = 8
CORRUPT = 5


def _with_settings(archive: Path, folder: Path, settings: dict[str, Any]) -> Path:
    """The same archive with other settings in its model-config.yaml, as an operator edits it."""
    edited = folder / archive.name
    with opened(archive) as contents:
        config = contents / CONFIG_FILE
        config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), **settings}))
        with zipfile.ZipFile(edited, "w") as file:
            for path in sorted(contents.rglob("*")):
                file.write(path, path.relative_to(contents))
    return edited


def _ask_all_at_once(
    server: TorchServeProcess, model: str, bodies: list[bytes]
) -> list[dict[str, Any] | RequestRejected]:
    start = threading.Barrier(len(bodies))

    def ask(body: bytes) -> dict[str, Any] | RequestRejected:
        start.wait()
        try:
            return server.http.predict(model, body).raw
        except RequestRejected as error:
            return error

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(ask, bodies))


def _same_bits_whatever_the_eighth_is(server: TorchServeProcess, bodies: list[bytes]) -> None:
    """The seven good ones are answered as they are without it, in any order of arrival."""
    seven = [body for index, body in enumerate(bodies) if index != CORRUPT]
    alone = [_without_id(answer) for answer in _ask_all_at_once(server, "shapes", seven)]
    for eighth in (b"GIF89a", b"no image", bytes(100), seven[0][:200], seven[1][:-500]) * 2:
        *others, refused = _ask_all_at_once(server, "shapes", [*seven, eighth])
        assert isinstance(refused, RequestRejected)
        assert [_without_id(answer) for answer in others] == alone


def _without_id(answer: dict[str, Any] | RequestRejected) -> dict[str, Any]:
    assert isinstance(answer, dict)
    return {name: value for name, value in answer.items() if name != "request_id"}


@pytest.mark.server
@pytest.mark.parametrize(
    ("method", "batching"),
    [
        ("scripting", "always"),
        pytest.param("scripting", "auto", marks=pytest.mark.long),  # one at a time, as below
        ("tracing", "auto"),
    ],
)
def test_one_corrupt_file_of_eight_harms_no_other(
    method: str,
    batching: str,
    exported: Exporter,
    held_out: HeldOut,
    oracle_of: Callable[[str], Oracle],
    tmp_path: Path,
) -> None:
    archive = _with_settings(exported("mask_rcnn_fpn", method), tmp_path, {"batching": batching})
    bodies = [file.read_bytes() for file in held_out.images[:CLIENTS]]
    bodies[CORRUPT] = bodies[CORRUPT][: len(bodies[CORRUPT]) // 3]
    good = [decode(body) for index, body in enumerate(bodies) if index != CORRUPT]
    oracle = oracle_of("mask_rcnn_fpn")
    expected = oracle.answer_batch(good) if batching == "always" else [*map(oracle.answer, good)]

    with TorchServeProcess(model_store=tmp_path, enable_model_api=True) as server:
        server.management.register(
            archive.name,
            model_name="shapes",
            initial_workers=1,
            batch_size=CLIENTS,
            max_batch_delay=5000,  # milliseconds: until all eight are there
        )
        (description,) = server.management.describe("shapes")
        assert description.raw["batchSize"] == CLIENTS
        answers = _ask_all_at_once(server, "shapes", bodies)
        if batching == "always":
            _same_bits_whatever_the_eighth_is(server, bodies)

    rejected = answers.pop(CORRUPT)
    assert isinstance(rejected, RequestRejected)
    assert rejected.status == 400
    assert rejected.code == "invalid_image"
    instances = 0
    for reference, answer in zip(expected, answers):
        assert isinstance(answer, dict)
        difference = compare(
            "of a batch", reference, parse_prediction(answer).to_outputs(), TORCHSCRIPT_BOUNDS
        )
        assert difference.misses == ()
        instances += difference.detections
    assert instances >= 2 * CLIENTS
