"""Runs programs on OpenVINO, on the CPU, in the precision that the spec names.

OpenVINO runs fp32 programs in bf16 where the CPU has it unless it is told not to, and takes every
core of the machine. Both are said here and nowhere else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov

from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.convolution import winograd_is_wanted
from d2serve.handlers.runtimes.cpu_features import slow_precision
from d2serve.handlers.runtimes.details import Details
from d2serve.handlers.runtimes.joining import answered, answers_of
from d2serve.handlers.runtimes.mapped_files import forget_pages
from d2serve.handlers.runtimes.raw_outputs import AnyArray, Float32, RawOutputs, Size
from d2serve.handlers.runtimes.sessions import Sessions
from d2serve.handlers.spec.convolution import AUTO
from d2serve.handlers.spec.model_spec import ModelSpec

if TYPE_CHECKING:
    from d2serve.kernels.openvino.replacing import Replaced

_log = logging.getLogger(__name__)

_NO_OLD_SHAPES = {"CPU_RUNTIME_CACHE_CAPACITY": 0}


class OpenVinoRuntime:
    """An OpenVINO program on the CPU, compiled for a number of threads."""

    on_gpu = False

    def __init__(
        self,
        model: ov.Model,
        weights: Path,
        spec: ModelSpec,
        float_type: str,
        threads: int,
        replaced: Replaced | None = None,
    ) -> None:
        self._spec = spec
        self._outputs = answers_of(spec)
        self._mapped = [weights, *(replaced.files if replaced is not None else ())]
        self._requests = Sessions(partial(_compiled, model, float_type, replaced), threads)
        # A request holds one call's inputs and outputs. More requests would take more memory and
        # gain nothing: the one stream that a worker has would run them one after the other.
        self._one_call = threading.Lock()

    @property
    def threads(self) -> int:
        """Threads that the next call will use."""
        return self._requests.threads

    def set_threads(self, threads: int) -> None:
        """Use this many threads from the next call on.

        OpenVINO fixes them when it compiles. A worker sets its share right after it has loaded, so
        compiling waits for the first call; a share that changes later costs that call the compiling
        again, about a second for a full-size Mask R-CNN.
        """
        self._requests.set_threads(threads)

    def release_memory(self) -> None:
        """Give up what OpenVINO keeps between calls: feature maps, and the pages of the weights'
        files. Of OpenVINO's own it has made copies in other layouts; Winograd's come back by
        themselves, from the system's cache.

        Getting the maps anew costs the next call some 0.2 s for a full-size Mask R-CNN.
        """
        self._requests.call(self._release)

    def run(
        self,
        images: Sequence[Float32],
        sizes: Sequence[Size] = (),
        details: Sequence[Details] = (),
    ) -> list[RawOutputs]:
        """See ``Runtime.run``."""

        def ask(given: tuple[AnyArray, ...]) -> RawOutputs:
            return self._requests.call(partial(self._answers, given))

        return answered(self._spec, images, sizes, details, ask)

    def _release(self, request: ov.InferRequest) -> None:
        with self._one_call:
            request.get_compiled_model().release_memory()
        for file in self._mapped:
            forget_pages(file)

    def _answers(self, given: Sequence[AnyArray], request: ov.InferRequest) -> RawOutputs:
        with self._one_call:
            request.infer([np.asarray(each, order="C") for each in given])
            # The request's own memory is written again by the next call.
            return {name: request.get_tensor(name).data.copy() for name in self._outputs}


def _compiled(
    model: ov.Model, float_type: str, replaced: Replaced | None, threads: int
) -> ov.InferRequest:
    if replaced is not None:
        replaced.threads = threads
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # Workers that pin their threads all pin them to the same first cores.
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": float_type,
    }
    return _core().compile_model(model, "CPU", settings).create_infer_request()


def _core() -> ov.Core:
    """OpenVINO, keeping no kernels for shapes that have passed.

    It would keep thousands, which are seldom asked for again: 30 MB more after some hundred images
    of the small example model. Its name for this is not documented: OpenVINO that does not know it
    goes without.
    """
    core = ov.Core()
    core.set_property("CPU", _NO_OLD_SHAPES)
    try:
        core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")  # only now it reads what was set
    except RuntimeError:
        return ov.Core()
    return core


def load(
    program: Path, spec: ModelSpec, device: str, threads: int, convolution: str = AUTO
) -> OpenVinoRuntime:
    """Load an OpenVINO program: an ``.xml``, with its ``.bin`` beside it.

    Where the CPU lacks what the program's precision needs, one line says so in the log, and it runs
    in fp32.

    Raises:
        LoadError: a GPU is asked for, this OpenVINO cannot read the program, the program is not
            the one that its spec describes, or Winograd's convolutions are asked for by name and
            are not installed.
    """
    if device != "cpu":
        raise LoadError(
            f"Asked to run on {device}, but OpenVINO programs run on the CPU. "
            "Start TorchServe without GPUs (number_of_gpu=0), or export with --runtime torchscript."
        )
    core = ov.Core()
    try:
        model = core.read_model(program)
    except Exception as error:
        exported_with = spec.versions.get("openvino", "an unknown version")
        raise LoadError(
            f"OpenVINO {ov.get_version()} cannot load {program.name}, which was exported with "
            f"OpenVINO {exported_with} ({' '.join(str(error).split())[-300:]}). "
            "Serve with that version, or export again with this one."
        ) from error
    _check(model, program, spec)
    precision = spec.precision
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    lacking = slow_precision(precision, capabilities)
    if lacking:
        _log.warning("%s is in %s, but %s: it runs in fp32.", spec.name, precision, lacking)
        if precision == "int8":
            _drop_quantization(model)
        precision = "fp32"
    # What an int8 program has in float is marked as a bf16 program is.
    in_bf16 = precision != "fp32" and "BF16" in capabilities
    float_type = "bf16" if in_bf16 else "f32"
    replaced = _with_winograd(model, program, spec, threads, convolution)
    weights = program.with_suffix(".bin")
    return OpenVinoRuntime(model, weights, spec, float_type, threads, replaced)


def _with_winograd(
    model: ov.Model, program: Path, spec: ModelSpec, threads: int, convolution: str
) -> Replaced | None:
    """Let Winograd's convolutions take the place of OpenVINO's, where they are wanted."""
    if not winograd_is_wanted(spec, convolution):
        return None
    from d2serve.kernels.openvino.replacing import replace_convolutions

    where_it_pays = convolution == AUTO
    replaced = replace_convolutions(model, program.parent, threads, where_it_pays=where_it_pays)
    _log.info("%s runs with %s.", spec.name, replaced)
    return replaced


def _check(model: ov.Model, program: Path, spec: ModelSpec) -> None:
    outputs = {name for output in model.outputs for name in output.names}
    missing = [name for name in answers_of(spec) if name not in outputs]
    shapes = [each.partial_shape for each in model.inputs]
    images = (-1,) * spec.joins_images
    fits = len(shapes) == len(spec.inputs) and shapes[0].rank == 3 + len(images)
    fits = fits and shapes[0][len(images)] == spec.channels
    if missing or not fits:
        others = "".join(f", {name}" for name in spec.inputs[1:])
        what = "images [?," if images else "one image ["
        raise LoadError(
            f"{program.name} is not the program that its spec describes: it takes "
            f"{[str(shape) for shape in shapes]}, expected {what}{spec.channels},?,?]{others}; "
            f"it gives {sorted(outputs)}, without {missing}. Export the model again."
        )


def _drop_quantization(model: ov.Model) -> None:
    """Let activations pass unrounded; weights stay the rounded ones."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            node.output(0).replace(node.input_value(0))
    model.validate_nodes_and_infer_types()
