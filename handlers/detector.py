"""Why: the whole way from pixels to answers as a plain library, for any server or script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Union

import numpy as np
import numpy.typing as npt

from d2serve.handlers.cores import available_cores
from d2serve.handlers.errors import ModelFailed, RequestError
from d2serve.handlers.outputs.postprocessing import postprocess
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.outputs.selection import EVERYTHING, Selection
from d2serve.handlers.requests.preprocessing import PreparedImage, preprocess
from d2serve.handlers.runtimes.batching import BatchPlanner
from d2serve.handlers.runtimes.loading import Runtime, load_runtime
from d2serve.handlers.runtimes.raw_outputs import RawOutputs
from d2serve.handlers.spec.model_spec import ModelSpec, read_spec
from d2serve.handlers.timing import ProgramCall, Seconds, Stopwatch

# (height, width) of the image that warms a program up, in pixels.
_WARM_UP_SHAPE = (64, 64)

Outcome = Union[Outputs, RequestError]


@dataclass(frozen=True)
class ImageResult:
    """What became of one image, and what it took."""

    outcome: Outcome
    call: ProgramCall | None = None
    """In which the program answered; None where it failed."""
    seconds: Seconds = field(default_factory=dict)
    """``forward``, which is the whole call's, and ``postprocess``; empty where it failed."""


class Detector:
    """A loaded model: images in, outputs out, equal to DefaultPredictor's."""

    def __init__(self, spec: ModelSpec, runtime: Runtime, planner: BatchPlanner) -> None:
        self.spec = spec
        self._runtime = runtime
        self._planner = planner

    @staticmethod
    def load(
        model_dir: Path,
        device: str = "cpu",
        batching: str = "auto",
        threads: int | None = None,
        limits: object = None,
    ) -> Detector:
        """Load an extracted archive.

        Args:
            model_dir: the folder that holds model_spec.json.
            device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
            threads: CPU threads to use; None takes every core.
            batching: ``"auto"`` batches where the program permits it and runs on a GPU,
                ``"always"`` wherever the program permits it, ``"never"`` not at all.
            limits: what the model's YAML says under ``limits``: a mapping of those that are not
                to be the archive's own, or None.

        Raises:
            LoadError: the archive cannot be served here; the message says why.
        """
        spec = read_spec(model_dir)
        spec = replace(spec, limits=spec.limits.overridden(limits))
        runtime = load_runtime(model_dir, spec, device, threads or available_cores())
        return Detector(spec, runtime, BatchPlanner(batching, spec.dynamic_batch, runtime.on_gpu))

    def __call__(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Outputs]:
        """Answer images, each (H, W, 3) uint8 in RGB order.

        Raises:
            ModelFailed: the program failed on one of them.
        """
        results = self.answer([preprocess(image, self.spec) for image in images])
        for each in results:
            if isinstance(each.outcome, RequestError):
                raise each.outcome
        return [each.outcome for each in results if isinstance(each.outcome, Outputs)]

    def answer(
        self, images: Sequence[PreparedImage], selections: Sequence[Selection] | None = None
    ) -> list[ImageResult]:
        """As calling it, but an image that fails has its error for an outcome.

        Args:
            images: what ``preprocess`` makes of them.
            selections: what of each image's outputs is wanted; without it, everything.
        """
        wanted = selections or [EVERYTHING] * len(images)
        results = [ImageResult(ModelFailed("not answered"))] * len(images)
        for group in self._planner.plan(len(images)):
            some = [images[i] for i in group], [wanted[i] for i in group]
            for index, each in zip(group, self._answer_group(*some)):
                results[index] = each
        return results

    def set_threads(self, threads: int) -> None:
        """Use this many CPU threads from now on."""
        self._runtime.set_threads(threads)

    def warm_up(self) -> None:
        """Run the program once, on a small image.

        The first call compiles, chooses kernels and lays out weights, whatever the shape. What a
        larger shape costs when it first comes is little, and is not worth keeping a worker waiting
        for a whole forward: docs/runtimes.md has the figures.
        """
        pattern = np.random.default_rng(0).integers(0, 256, (3, *_WARM_UP_SHAPE))
        self._runtime.run([pattern.astype(np.float32)])

    def _answer_group(
        self, images: Sequence[PreparedImage], wanted: Sequence[Selection]
    ) -> list[ImageResult]:
        watch = Stopwatch()
        try:
            outputs = self._runtime.run([image.tensor for image in images])
        # A runtime raises its own exceptions, out of memory among them.
        except Exception as error:
            if len(images) > 1:  # find the one that fails; the others still get their answers
                return [
                    each
                    for image, selection in zip(images, wanted)
                    for each in self._answer_group([image], [selection])
                ]
            return [ImageResult(_failed(error))]
        call = ProgramCall(len(images), watch.lap())
        return [self._finish(*each, call, watch) for each in zip(outputs, images, wanted)]

    def _finish(
        self,
        raw: RawOutputs,
        image: PreparedImage,
        selection: Selection,
        call: ProgramCall,
        watch: Stopwatch,
    ) -> ImageResult:
        outcome: Outcome
        try:
            outcome = postprocess(raw, image, self.spec, selection)
        except RequestError as error:
            outcome = error
        # Outputs of other shapes than the spec says, or no memory for the masks.
        except Exception as error:
            outcome = _failed(error)
        return ImageResult(outcome, call, {"forward": call.seconds, "postprocess": watch.lap()})


def _failed(error: Exception) -> ModelFailed:
    reason = " ".join(str(error).split())[-300:] or type(error).__name__
    return ModelFailed(
        f"The model failed on this image ({reason}). If every image fails, the archive is at "
        "fault: prove it with `d2serve verify`. If large ones do, the server lacks memory."
    )
