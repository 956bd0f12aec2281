"""Sends mutated requests to a handler in this process, and notes what it makes of them.

Seconds are those of this process's CPU, since others may be busy on the machine.
"""

from __future__ import annotations

import gc
import json
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from ts.context import Context, RequestProcessor

from d2serve.handlers.detector import Detector
from d2serve.handlers.outputs.records import Float32
from d2serve.handlers.runtimes.batching import BatchPlanner
from d2serve.handlers.runtimes.raw_outputs import RawOutputs
from d2serve.handlers.service import Service
from d2serve.handlers.torchserve.busy import WorkerMark
from d2serve.handlers.torchserve.detection_handler import DetectionHandler
from d2serve.handlers.torchserve.memory import WorkerMemory
from d2serve.handlers.torchserve.metrics import Metrics
from d2serve.handlers.torchserve.reporting import Reporter
from d2serve.handlers.torchserve.upkeep import Upkeep
from tests.handlers.samples import spec_with
from tests.robustness import mutations

MOST_SECONDS = 1.0
MOST_MEGABYTES = 300.0
_FOLDER = tempfile.TemporaryDirectory(prefix="d2serve-fuzzed-")  # goes with this process


class _Runtime:
    """Two instances in every image, with masks, at no cost."""

    on_gpu = False

    def run(self, images: Sequence[Float32], *_: object) -> list[RawOutputs]:
        return [self._answer(*image.shape[1:]) for image in images]

    def set_threads(self, threads: int) -> None:
        pass

    def _answer(self, height: int, width: int) -> RawOutputs:
        boxes = [[0, 0, width / 2, height / 2], [width / 4, height / 4, width, height]]
        return {
            "pred_boxes": np.array(boxes, np.float32),
            "scores": np.array([0.9, 0.4], np.float32),
            "pred_classes": np.array([0, 1]),
            "pred_masks": np.ones((2, 1, 28, 28), np.float32),
        }


def handler() -> DetectionHandler:
    """A loaded handler, but for its model."""
    spec = spec_with(
        outputs=("pred_boxes", "scores", "pred_classes", "pred_masks"),
        class_names=("circle", "square"),
        min_size_test=64,
        max_size_test=128,
    )
    made = DetectionHandler()
    detector = Detector(spec, _Runtime(), BatchPlanner("never", True, False))
    made._service = Service(detector, "shapes", max_reply_bytes=spec.limits.max_reply_bytes)
    made._reporter = Reporter(Metrics(None, "shapes", "1.0"), "shapes", "1.0")
    made._upkeep = Upkeep(detector, 1, WorkerMemory(detector))
    made._mark = WorkerMark(Path(_FOLDER.name))
    return made


@dataclass
class Figures:
    """What came of the requests so far."""

    codes: Counter[str] = field(default_factory=Counter)
    slowest_refusal: tuple[float, str] = (0.0, "")
    slowest_answer: tuple[float, str] = (0.0, "")
    failures: list[str] = field(default_factory=list)

    def of(self, made: DetectionHandler, request: mutations.Request, name: str) -> None:
        """Send one request, and note what came of it."""
        fields, headers = request
        manifest = {"model": {"modelName": "shapes", "modelVersion": "1.0"}}
        context: Any = Context("shapes", ".", manifest, 1, None, "0.12")
        context.request_processor = [RequestProcessor(headers)]
        start = time.process_time()
        try:
            (reply,) = made.handle([fields], context)
        except Exception as error:
            self.failures.append(f"{name}: {error!r} left the handler")
            return
        seconds = time.process_time() - start
        status, phrase = context.get_response_status(0)
        code = "ok"
        if status != 200:
            told = json.loads(reply)
            if "outputs" in told:
                told = told["outputs"][0]["data"][0]
            refused = told["error"]
            code = refused.split(":")[0] if isinstance(refused, str) else refused["code"]
            self.slowest_refusal = max(self.slowest_refusal, (seconds, f"{name} {code}"))
            if not str(phrase).isascii() or not str(phrase).isprintable():
                self.failures.append(f"{name}: the phrase {phrase!a} would end the worker")
        else:
            self.slowest_answer = max(self.slowest_answer, (seconds, name))
        self.codes[code] += 1
        if status >= 500:
            self.failures.append(f"{name}: {reply[:300]!r}")
        if code != "ok" and seconds > MOST_SECONDS:
            self.failures.append(f"{name}: refused as {code} after {seconds:.2f} s")


def fuzz(count: int, first: int = 0) -> Figures:
    """Send so many requests, one for each seed from the first on."""
    made, figures = handler(), Figures()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(first, first + count):
            figures.of(made, mutations.request(Random(seed)), f"seed {seed}")
    return figures


def resident_megabytes() -> float:
    """Of this process, now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6
