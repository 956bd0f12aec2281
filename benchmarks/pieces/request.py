"""The steps of one request: what surrounds the model's forward is what a server can save.

The steps around the forward are timed in this process, in a single thread and without a server, on
the same JPEG: ours by calling the library that travels in the .mar, eager detectron2's by calling
what DefaultPredictor and the eager handler call. The forward is timed beside them; see forward.py.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances

from benchmarks.pieces.counters import LayerShares, layer_shares
from benchmarks.pieces.forward import Forward, time_forward
from benchmarks.pieces.peak import threads_of_torch
from benchmarks.served import eager_handler
from benchmarks.served.model import SavedModel
from benchmarks.served.sides import SIDES
from benchmarks.serving.plan import BenchPlan
from d2serve.client.own_handling import yaml_settings
from d2serve.export.archive.opening import opened
from d2serve.handlers.outputs.postprocessing import postprocess
from d2serve.handlers.replies.encoding import encode
from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.requests.preprocessing import preprocess
from d2serve.handlers.runtimes.details import Details, inputs_of
from d2serve.handlers.runtimes.loading import load_runtime
from d2serve.handlers.runtimes.raw_outputs import Float32
from d2serve.handlers.spec.model_spec import ModelSpec, read_spec
from d2serve.handlers.spec.runtimes import BF16, OPENVINO
from d2serve.server.measuring.figures import Figure, median_of

PREPARE, FINISH, ENCODE = "decode and resize", "paste and RLE", "JSON"
AROUND = (PREPARE, FINISH, ENCODE)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Pieces:
    """Where the time of one request goes, without a server."""

    around: dict[str, Figure]
    """Milliseconds in one thread, by step."""
    outside: Figure
    """Their sum."""
    forwards: tuple[Forward, ...]
    """One for each number of threads."""
    layers: LayerShares | None = None
    """Of the last of them, where its runtime counts."""


def our_pieces(
    side: str, archive: Path, jpeg: bytes, work: float, threads: Sequence[int], plan: BenchPlan
) -> Pieces:
    """Time the steps of a d2serve archive.

    Args:
        side: its name.
        archive: the .mar.
        jpeg: the picture.
        work: operations of a forward, as model_work.py counts them.
        threads: the forward is timed with each of these.
        plan: of the run.
    """
    repeats = plan.piece_repeats
    with opened(archive) as model_dir, threads_of_torch(1):
        spec = read_spec(model_dir)
        runtime = load_runtime(model_dir, spec, "cpu", **_convolution(model_dir))
        prepare, prepared = _timed(lambda: preprocess(decode(jpeg), spec), repeats)
        forwards = []
        for count in threads:
            runtime.set_threads(count)
            raw, forward = time_forward(
                lambda: runtime.run([prepared.tensor])[0],
                SIDES[side].precision,
                count,
                work,
                plan.forward_seconds,
            )
            forwards.append(forward)
        layers = _layers(model_dir, spec, prepared.tensor, threads[-1])
        runtime.set_threads(1)
        finish, found = _timed(lambda: postprocess(raw, prepared, spec), repeats)
        write, _ = _timed(lambda: encode(found, spec, spec.name, "1.0"), repeats)
    return replace(_pieces(prepare, finish, write, forwards), layers=layers)


def _layers(model_dir: Path, spec: ModelSpec, image: Float32, threads: int) -> LayerShares | None:
    """Of programs in bf16, whose forward is compared with the peak and is OpenVINO's alone."""
    if (spec.runtime, spec.precision) != (OPENVINO, BF16):
        return None
    details = () if spec.detail_classes is None else (Details.of_all(spec.detail_classes),)
    (inputs,) = inputs_of(spec, [image], (), details)
    return layer_shares(model_dir / spec.program, inputs, "bf16", threads)


def _convolution(model_dir: Path) -> dict[str, Any]:
    """As the archive's model-config.yaml has it, where it says something of it."""
    settings = yaml_settings(model_dir)
    return {"convolution": settings["convolution"]} if "convolution" in settings else {}


def eager_pieces(
    saved: SavedModel, jpeg: bytes, work: float, threads: Sequence[int], plan: BenchPlan
) -> tuple[Pieces, Instances]:
    """Time the steps of the eager handler.

    Returns:
        Its pieces, and the model's raw answer: boxes in pixels of the model's input.
    """
    repeats = plan.piece_repeats
    with threads_of_torch(1), torch.no_grad():
        predictor = eager_handler.load_predictor(saved.config.parent)
        names = predictor.metadata.get("thing_classes")
        height, width = eager_handler.decode_bgr(jpeg).shape[:2]

        def prepared() -> torch.Tensor:  # as DefaultPredictor.__call__, for a BGR model
            image = eager_handler.decode_bgr(jpeg)
            resized = predictor.aug.get_transform(image).apply_image(image)
            return torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))

        prepare, tensor = _timed(prepared, repeats)
        inputs = [{"image": tensor, "height": height, "width": width}]
        forwards = []
        for count in threads:
            with threads_of_torch(count):
                raw, forward = time_forward(
                    lambda: predictor.model.inference(inputs, do_postprocess=False)[0],
                    "fp32",
                    count,
                    work,
                    plan.forward_seconds,
                )
            forwards.append(forward)
        # detector_postprocess scales the boxes that it is given in place.
        copies = iter([copy.deepcopy(raw) for _ in range(repeats + 1)])

        def finished() -> tuple[Instances, list[dict[str, Any]]]:
            instances = detector_postprocess(next(copies), height, width)
            return instances, eager_handler.encode_masks(instances)

        finish, found = _timed(finished, repeats)
        instances, masks = found
        write, _ = _timed(
            lambda: json.dumps(eager_handler.describe(instances, masks, names)).encode(), repeats
        )
    return _pieces(prepare, finish, write, forwards), raw


def _pieces(prepare: Figure, finish: Figure, write: Figure, forwards: Sequence[Forward]) -> Pieces:
    around = {PREPARE: prepare, FINISH: finish, ENCODE: write}
    outside = Figure(
        sum(figure.value for figure in around.values()),
        sum(figure.low for figure in around.values()),
        sum(figure.high for figure in around.values()),
    )
    return Pieces(around, outside, tuple(forwards))


def _timed(step: Callable[[], Result], repeats: int) -> tuple[Figure, Result]:
    result = step()  # warm-up
    milliseconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = step()
        milliseconds.append((time.perf_counter() - start) * 1000)
    return median_of(milliseconds), result
