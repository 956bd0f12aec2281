"""Times batches on a GPU: each form and eager detectron2 in turns, from pixels to run lengths.

What is timed is what a handler does between decoding and JSON: resize, forward, paste and encode
the masks. Every side ends in arrays on the CPU, so nothing of it is still running on the GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from detectron2.engine import DefaultPredictor
from PIL import Image

from benchmarks.gpu.plan import FORMS, GpuPlan
from benchmarks.served.archives import Order, fill
from benchmarks.served.eager_handler import encode_masks, load_predictor
from benchmarks.served.low_precision import with_lowered_program
from benchmarks.served.model import SavedModel, save_random_model
from d2serve.export.precision.fp16 import to_fp16
from d2serve.export.reading.config import ConfigSource
from d2serve.export.request import ExportRequest
from d2serve.handlers.detector import Detector
from d2serve.server.measuring.drawn_photo import photo
from d2serve.server.measuring.figures import Figure, median_of, median_ratio

EAGER = "eager"
Pixels = npt.NDArray[np.uint8]
_Ask = Callable[[int], int]
"""Answers that many copies of the picture at once; how many instances were found in the first."""


@dataclass(frozen=True)
class Timed:
    """One side with one size of batch."""

    side: str
    batch: int
    seconds: Figure
    """Of a batch."""
    images_per_second: Figure
    ratio: Figure
    """Images per second by eager's in the same round and with the same batch."""
    instances: int


def timed(plan: GpuPlan, folder: Path, advance: Callable[[], None]) -> list[Timed]:
    """Time eager detectron2 and every form that exports, with every size of batch.

    Args:
        plan: of the run.
        folder: where the model and the archives go.
        advance: called after each size of batch.
    """
    picture = photo(*plan.picture_size, seed=plan.seed)
    saved = save_random_model(folder, plan.zoo_name, plan.overrides, picture, plan.seed)
    predictor = _predictor(saved, plan.device)
    asks: dict[str, _Ask] = {EAGER: lambda count: _eager(predictor, picture, count)}
    detectors = {
        name: Detector.open(_archive(plan, name, saved, picture, folder), device=plan.device)
        for name in plan.forms
    }
    for name, detector in detectors.items():
        asks[name] = lambda count, of=detector: _ours(of, picture, count)  # type: ignore[misc]
    found = []
    for batch in plan.timed_batches:
        found += _in_turns(asks, batch, plan.rounds)
        advance()
    for detector in detectors.values():
        detector.close()
    return found


def _in_turns(asks: dict[str, _Ask], batch: int, rounds: int) -> list[Timed]:
    instances = {name: ask(batch) for name, ask in asks.items()}  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(rounds):
        for name, ask in asks.items():
            start = time.perf_counter()
            ask(batch)
            seconds[name].append(time.perf_counter() - start)
    rates = {name: [batch / each for each in own] for name, own in seconds.items()}
    return [
        Timed(
            name,
            batch,
            median_of(seconds[name]),
            median_of(rates[name]),
            median_ratio(rates[name], rates[EAGER]),
            instances[name],
        )
        for name in asks
    ]


def _predictor(saved: SavedModel, device: str) -> DefaultPredictor:
    predictor = load_predictor(saved.config.parent)
    predictor.model.to(torch.device(device))
    return predictor


def _eager(predictor: DefaultPredictor, picture: Pixels, count: int) -> int:
    """As DefaultPredictor does it, for several images at once."""
    height, width = picture.shape[:2]
    given = []
    for _ in range(count):
        resized = predictor.aug.get_transform(picture[:, :, ::-1]).apply_image(picture[:, :, ::-1])
        tensor = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
        given.append({"image": tensor, "height": height, "width": width})
    with torch.no_grad():
        answers = [each["instances"].to("cpu") for each in predictor.model(given)]
    for each in answers:
        encode_masks(each)
    return len(answers[0])


def _ours(detector: Detector, picture: Pixels, count: int) -> int:
    answers = detector([picture] * count)
    found = answers[0].instances
    return 0 if found is None else len(found.scores)


def _archive(plan: GpuPlan, name: str, saved: SavedModel, picture: Pixels, folder: Path) -> Path:
    form = FORMS[name]
    if form.precision != "fp32":
        same = {**form.export, "precision": "fp32"}
        base = next(n for n in plan.forms if {"precision": "fp32", **FORMS[n].export} == same)
        target = folder / f"{name}.mar"
        with_lowered_program(folder / f"{base}.mar", form.precision, _halve, target)
        return target
    short, longest = plan.export_size
    sample = folder / "sample.png"
    Image.fromarray(picture).resize((longest, short)).save(sample)
    overrides: Sequence[str] = (
        *("MODEL.WEIGHTS", str(saved.weights), "MODEL.DEVICE", plan.device),
        *("INPUT.MIN_SIZE_TEST", str(short), "INPUT.MAX_SIZE_TEST", str(longest)),
    )
    request = ExportRequest(
        source=ConfigSource(str(saved.config), list(overrides)),
        name=name,
        sample_image=sample,
        output=folder,
        **form.export,  # type: ignore[arg-type]  # names of its fields
    )
    return fill(Order(request, saved.config))


def _halve(program: Path) -> None:
    """A random model has no AP to lose, and so is not judged."""
    lowered = onnx.load(program)
    to_fp16(lowered)
    onnx.save(lowered, program)
