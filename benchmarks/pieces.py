"""Why: what a server adds to the model's forward is what a server can save.

The steps around the forward are timed in this process, in a single thread and without a server, on
the same JPEG: ours by calling the library that travels in the .mar, eager detectron2's by calling
what DefaultPredictor and the eager handler call.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances

from benchmarks import eager_handler
from benchmarks.figures import Figure, median_of
from benchmarks.model import SavedModel
from d2serve.export.archive import opened
from d2serve.handlers.decoding import decode
from d2serve.handlers.encoding import encode
from d2serve.handlers.model_spec import read_spec
from d2serve.handlers.postprocessing import postprocess
from d2serve.handlers.preprocessing import preprocess
from d2serve.handlers.runtime import load_runtime

PREPARE, FORWARD, FINISH, ENCODE = "decode and resize", "forward", "paste and RLE", "JSON"
OUTSIDE = "outside the forward"
AROUND = (PREPARE, FINISH, ENCODE)

Pieces = dict[str, Figure]
"""Milliseconds by step; OUTSIDE is the sum of the medians of all but the forward."""

Result = TypeVar("Result")


def our_pieces(archive: Path, jpeg: bytes, repeats: int, forwards: int) -> Pieces:
    """Time the steps of a d2serve archive."""
    with opened(archive) as model_dir, _one_thread():
        spec = read_spec(model_dir)
        runtime = load_runtime(model_dir, spec, "cpu")
        runtime.set_threads(1)
        prepare, prepared = _timed(lambda: preprocess(decode(jpeg), spec), repeats)
        forward, raw = _timed(lambda: runtime.run([prepared.tensor])[0], forwards)
        finish, found = _timed(lambda: postprocess(raw, prepared, spec.mask_threshold), repeats)
        write, _ = _timed(lambda: encode(found, spec, spec.name, "1.0"), repeats)
    return _pieces(prepare, forward, finish, write)


def eager_pieces(saved: SavedModel, jpeg: bytes, repeats: int, forwards: int) -> Pieces:
    """Time the steps of the eager handler."""
    with _one_thread(), torch.no_grad():
        predictor = eager_handler.load_predictor(saved.config.parent)
        names = predictor.metadata.get("thing_classes")
        height, width = eager_handler.decode_bgr(jpeg).shape[:2]

        def prepared() -> torch.Tensor:  # as DefaultPredictor.__call__, for a BGR model
            image = eager_handler.decode_bgr(jpeg)
            resized = predictor.aug.get_transform(image).apply_image(image)
            return torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))

        prepare, tensor = _timed(prepared, repeats)
        inputs = [{"image": tensor, "height": height, "width": width}]
        forward, raw = _timed(
            lambda: predictor.model.inference(inputs, do_postprocess=False)[0], forwards
        )
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
    return _pieces(prepare, forward, finish, write)


def _pieces(prepare: Figure, forward: Figure, finish: Figure, write: Figure) -> Pieces:
    around = (prepare, finish, write)
    outside = Figure(
        sum(figure.value for figure in around),
        sum(figure.low for figure in around),
        sum(figure.high for figure in around),
    )
    return {PREPARE: prepare, FORWARD: forward, FINISH: finish, ENCODE: write, OUTSIDE: outside}


def _timed(step: Callable[[], Result], repeats: int) -> tuple[Figure, Result]:
    result = step()  # warm-up
    milliseconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = step()
        milliseconds.append((time.perf_counter() - start) * 1000)
    return median_of(milliseconds), result


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
