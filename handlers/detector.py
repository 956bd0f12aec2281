"""The ``Detector``: pixels in, answers out, as a plain library for any server or script."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Union, overload
from weakref import finalize

import numpy as np

from d2serve.handlers.archive_checks import check_archive
from d2serve.handlers.bundle import unpack_program
from d2serve.handlers.cores import available_cores, threads_wanted
from d2serve.handlers.errors import ModelFailed, RequestError
from d2serve.handlers.outputs.details import DetailsMissing, details_of
from d2serve.handlers.outputs.postprocessing import postprocess
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.outputs.selection import EVERYTHING, Selection
from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.requests.given import GivenImage, is_one, pixels_of
from d2serve.handlers.requests.jpeg import sample
from d2serve.handlers.requests.preprocessing import ModelInput, preprocess
from d2serve.handlers.runtimes.batching import BatchPlanner
from d2serve.handlers.runtimes.details import Details
from d2serve.handlers.runtimes.loading import KeepsMemory, Runtime, load_runtime
from d2serve.handlers.runtimes.raw_outputs import RawOutputs
from d2serve.handlers.spec.model_spec import ModelSpec, read_spec
from d2serve.handlers.timing import ProgramCall, Seconds, Stopwatch

# (height, width) of the image that warms a program up, in pixels.
_WARM_UP_SHAPE = (64, 64)

_log = logging.getLogger(__name__)

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
    """A loaded model: images in, outputs out, equal to DefaultPredictor's.

        outputs = Detector.open("model.mar")("photo.jpg")

    Any number of threads may ask it. ``with Detector.open("model.mar") as detector:`` gives back
    what it has unpacked; without it, that goes when the detector is collected or Python ends.
    """

    def __init__(self, spec: ModelSpec, runtime: Runtime, planner: BatchPlanner) -> None:
        self.spec = spec
        self._runtime = runtime
        self._planner = planner
        self._clean_up: Callable[[], object] = _nothing

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        device: str = "cpu",
        batching: str = "auto",
        threads: int | None = None,
        limits: object = None,
        convolution: str = "auto",
    ) -> Detector:
        """Load a .mar, or the folder that one was extracted to; which of them, it looks.

        A .mar is read through and checked as `d2serve serve` does. Its program is unpacked into a
        private temporary folder for as long as the detector lives; nothing of it is imported.

        Args:
            path: the file or folder.
            device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
            threads: CPU threads to use; None takes OMP_NUM_THREADS where that is set, otherwise
                the cores that this process may use.
            batching: ``"auto"`` batches where the program permits it and runs on a GPU,
                ``"always"`` wherever the program permits it, ``"never"`` not at all.
            limits: what the model's YAML says under ``limits``: a mapping of those that are not
                to be the archive's own, or None.
            convolution: ``"auto"`` runs 3x3 convolutions by Winograd's algorithm where the export
                has verified that and it is faster here, ``"winograd"`` wherever it can,
                ``"direct"`` never.

        Raises:
            LoadError: the archive cannot be served here; the message says why.
        """
        where = Path(path)
        if where.is_dir():
            return cls._load(where, device, batching, threads, limits, convolution)
        check_archive(where)
        folder = unpack_program(where)
        try:
            detector = cls._load(folder, device, batching, threads, limits, convolution)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        detector._clean_up = finalize(detector, shutil.rmtree, folder, ignore_errors=True)
        return detector

    @classmethod
    def _load(
        cls,
        model_dir: Path,
        device: str,
        batching: str,
        threads: int | None,
        limits: object,
        convolution: str,
    ) -> Detector:
        spec = read_spec(model_dir)
        spec = replace(spec, limits=spec.limits.overridden(limits))
        threads = threads or threads_wanted() or available_cores()
        runtime = load_runtime(model_dir, spec, device, threads, convolution)
        return cls(spec, runtime, BatchPlanner(batching, spec.dynamic_batch, runtime.on_gpu))

    @property
    def answers_together(self) -> bool:
        """Whether images that are asked for together share a call of the program."""
        return self._planner.together

    def close(self) -> None:
        """Remove what was unpacked; the detector must not be asked any more."""
        self._clean_up()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @overload
    def __call__(  # type: ignore[overload-overlap]  # text is a path, and no sequence of them
        self, images: GivenImage
    ) -> Outputs: ...

    @overload
    def __call__(self, images: Sequence[GivenImage]) -> list[Outputs]: ...

    def __call__(self, images: Any) -> Outputs | list[Outputs]:
        """Answer an image, or a sequence of them by a list.

        Args:
            images: each a path, the bytes of an image file, a PIL image or an array of uint8: of
                most models (H, W, 3) in RGB order, of others as ``spec.image_form`` says. What
                ``cv2.imread`` gives is BGR: hand in ``image[:, :, ::-1]``.

        Raises:
            RequestError: InvalidImage and its like where one of them is no image, or of another
                shape or type; ModelFailed where the program failed on it.
            OSError: a file cannot be read.
        """
        if is_one(images):
            return self([images])[0]
        given = [(image, f"image {index}") for index, image in enumerate(images)]
        pixels = [pixels_of(*each, self.spec.limits, self.spec.image_form) for each in given]
        results = self.answer([preprocess(each, self.spec) for each in pixels])
        for each in results:
            if isinstance(each.outcome, RequestError):
                raise each.outcome
        return [each.outcome for each in results if isinstance(each.outcome, Outputs)]

    def answer(
        self, images: Sequence[ModelInput], selections: Sequence[Selection] | None = None
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
        """Use this many CPU threads from now on.

        Where a runtime cannot make its session for as many, it keeps those it has, and says so in
        the log.
        """
        self._runtime.set_threads(threads)

    def warm_up(self) -> None:
        """Decode a small JPEG, and run the program once, on a small image.

        The first file takes ten times as long to decode, since Pillow loads its formats for it, and
        the decoders of JPEGs are compared. The first call of the program compiles, chooses kernels
        and lays out weights, whatever the shape. What a larger shape costs when it first comes is
        little, and is not worth keeping a worker waiting for a whole forward: docs/runtimes.md has
        the figures.
        """
        jpeg = sample()
        if jpeg is not None:
            decode(jpeg)
        shape = self.spec.channels, *_WARM_UP_SHAPE
        pattern = np.random.default_rng(0).integers(0, 256, shape)
        classes = self.spec.detail_classes
        # One mask lays out what a hundred need, and they take a second.
        details = () if classes is None else (replace(Details.of_all(classes), most=1),)
        self._runtime.run([pattern.astype(np.float32)], (), details)

    @property
    def keeps_memory(self) -> bool:
        """Whether its runtime keeps memory between calls, which ``release_memory`` gives up."""
        return isinstance(self._runtime, KeepsMemory)

    def release_memory(self) -> None:
        """Give up memory that the runtime keeps between calls, and get it anew with the next."""
        if isinstance(self._runtime, KeepsMemory):
            self._runtime.release_memory()

    def _answer_group(
        self, images: Sequence[ModelInput], wanted: Sequence[Selection]
    ) -> list[ImageResult]:
        watch = Stopwatch()
        try:
            details = [details_of(selection, self.spec) for selection in wanted]
            outputs = self._run(images, details)
            _check_count(len(outputs), len(images))
        # A runtime raises its own exceptions, out of memory among them.
        except Exception as error:
            if len(images) > 1:  # find the one that fails; the others still get their answers
                _log.warning("d2serve: %s; the images are answered one by one", _one_line(error))
                return [
                    each
                    for image, selection in zip(images, wanted)
                    for each in self._answer_group([image], [selection])
                ]
            return [ImageResult(_model_error(error))]
        call = ProgramCall(len(images), watch.lap())
        found = zip(outputs, images, wanted, details)
        return [self._finish(*each, call, watch) for each in found]

    def _run(
        self, images: Sequence[ModelInput], details: Sequence[Details | None]
    ) -> list[RawOutputs]:
        tensors = [image.tensor for image in images]
        sizes = [(image.height, image.width) for image in images]
        return self._runtime.run(tensors, sizes, [each for each in details if each is not None])

    def _finish(
        self,
        raw: RawOutputs,
        image: ModelInput,
        selection: Selection,
        details: Details | None,
        call: ProgramCall,
        watch: Stopwatch,
    ) -> ImageResult:
        outcome: Outcome
        forward = call.seconds
        try:
            try:
                outcome = postprocess(raw, image, self.spec, selection, details)
            except DetailsMissing:  # boxes among the best are empty: others take their places
                (raw,) = self._run([image], [None])
                forward += watch.lap()
                outcome = postprocess(raw, image, self.spec, selection)
        except RequestError as error:
            outcome = error
        # Outputs of other shapes than the spec says, or no memory for the masks.
        except Exception as error:
            outcome = _model_error(error)
        return ImageResult(outcome, call, {"forward": forward, "postprocess": watch.lap()})


def _check_count(answers: int, images: int) -> None:
    """Which image an answer belongs to is not known when there are too few or too many."""
    if answers != images:
        raise ValueError(f"the program answered {answers} of {images} images")


def _nothing() -> None:
    pass


def _model_error(error: Exception) -> ModelFailed:
    reason = _one_line(error)
    return ModelFailed(
        f"The model failed on this image ({reason}). If every image fails, the archive is at "
        "fault: check it with `d2serve verify`. If large ones do, the server lacks memory."
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[-300:] or type(error).__name__
