"""Runs ONNX programs on ONNX Runtime, on a CPU or GPU, without torch in the worker.

A program takes one image, ``image`` (channels, H, W) float32, and what else the spec names among
its inputs, and gives the outputs that the spec names; or it takes all images of a call.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime

from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.convolution import winograd_is_wanted
from d2serve.handlers.runtimes.details import Details
from d2serve.handlers.runtimes.joining import answered, answers_of
from d2serve.handlers.runtimes.mapped_files import forget_pages
from d2serve.handlers.runtimes.onnxruntime_memory import share_arena, shrink_arena
from d2serve.handlers.runtimes.raw_outputs import AnyArray, Float32, RawOutputs, Size
from d2serve.handlers.runtimes.sessions import Sessions
from d2serve.handlers.spec.convolution import AUTO, WINOGRAD
from d2serve.handlers.spec.model_spec import ModelSpec

if TYPE_CHECKING:
    from d2serve.kernels.onnxruntime.program import WinogradProgram

_log = logging.getLogger(__name__)

_MAPS_TENSORS = (1, 21)
"""The first onnxruntime that finds the tensors of a program in memory beside a file."""


class OnnxRuntime:
    """An ONNX program on one device."""

    def __init__(
        self,
        program: Path,
        spec: ModelSpec,
        device: str,
        threads: int,
        winograd: WinogradProgram | None = None,
    ) -> None:
        self._spec = spec
        self._outputs = answers_of(spec)
        self._device = device
        self._sessions = Sessions(partial(_session, program, device, winograd), threads)
        self._sessions.call(partial(_check_names, program, spec))

    @property
    def on_gpu(self) -> bool:
        """Whether the program runs on a GPU."""
        return self._device.startswith("cuda")

    def set_threads(self, threads: int) -> None:
        """Use this many threads within an operator, from the next call on.

        That call makes the session again, which takes about as long as loading; it happens only
        when workers come or go.
        """
        self._sessions.set_threads(threads)

    def release_memory(self) -> None:
        """Give up what ONNX Runtime keeps between calls on a CPU: the memory of feature maps."""
        if not self.on_gpu:
            shrink_arena()

    def run(
        self,
        images: Sequence[Float32],
        sizes: Sequence[Size] = (),
        details: Sequence[Details] = (),
    ) -> list[RawOutputs]:
        """See ``Runtime.run``; one image after the other, unless the program takes them together.

        A session may be used by many threads.
        """

        def ask(given: tuple[AnyArray, ...]) -> RawOutputs:
            return self._sessions.call(partial(self._answers, given))

        return answered(self._spec, images, sizes, details, ask)

    def _answers(
        self, given: Sequence[AnyArray], session: onnxruntime.InferenceSession
    ) -> RawOutputs:
        answers = session.run(list(self._outputs), dict(zip(self._spec.inputs, given)))
        return dict(zip(self._outputs, answers))


def load(
    program: Path, spec: ModelSpec, device: str, threads: int, convolution: str = AUTO
) -> OnnxRuntime:
    """Load an ONNX program.

    Raises:
        LoadError: the device is not there, this onnxruntime cannot read the program, its inputs
            and outputs are not those of the spec, or Winograd's convolutions are asked for by name
            and cannot be had.
    """
    if device.startswith("cuda") and "CUDAExecutionProvider" not in _providers():
        raise LoadError(
            f"Asked to run on {device}, but onnxruntime {onnxruntime.__version__} has only "
            f"{', '.join(_providers())}. Install the GPU build in the server's Python "
            "(pip uninstall onnxruntime; pip install onnxruntime-gpu), or start TorchServe "
            "without GPUs (number_of_gpu=0)."
        )
    if not winograd_is_wanted(spec, convolution, device):
        return OnnxRuntime(program, spec, device, threads)
    from d2serve.kernels.onnxruntime.program import WinogradProgram

    winograd = WinogradProgram(
        program,
        program.parent,
        where_it_pays=convolution == AUTO,
        maps_tensors=_maps_tensors(),
    )
    try:
        runtime = OnnxRuntime(program, spec, device, threads, winograd)
    except Exception as error:
        if convolution == WINOGRAD:
            raise
        _log.warning(
            "%s runs without Winograd's convolutions, which onnxruntime %s does not take: %s",
            spec.name,
            onnxruntime.__version__,
            error,
        )
        return OnnxRuntime(program, spec, device, threads)
    _log.info("%s runs with %s.", spec.name, winograd)
    return runtime


def _providers() -> list[str]:
    found: list[str] = onnxruntime.get_available_providers()
    return found


def _session(
    program: Path, device: str, winograd: WinogradProgram | None, threads: int
) -> onnxruntime.InferenceSession:
    on_gpu = device.startswith("cuda")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait take the cores of the other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Nearly every image has a new shape: plans that are kept for old ones only hold memory.
    options.enable_mem_pattern = False
    options.log_severity_level = 3  # errors: otherwise the log is full of folded constants
    providers: list[object] = ["CPUExecutionProvider"]
    if not on_gpu:
        share_arena(options)
    else:
        options.enable_cpu_mem_arena = False
        number = int(device.partition(":")[2] or 0)
        # Its own default rounds the products of fp32 to TF32, ten bits.
        cuda = {"device_id": number, "use_tf32": 0}
        providers.insert(0, ("CUDAExecutionProvider", cuda))
    try:
        given: str | bytes = str(program)
        if winograd is not None:
            given = winograd.edited(options, threads)
        elif not on_gpu:
            given = _mapped(program, options)
        session = onnxruntime.InferenceSession(given, options, providers=providers)
    # onnxruntime raises exceptions of its own, without a common base.
    except Exception as error:
        raise LoadError(
            f"onnxruntime {onnxruntime.__version__} cannot load {program.name} "
            f"({' '.join(str(error).split())[:300]}). Install the version that the archive was "
            "exported with (see `d2serve inspect`), or export again with this one."
        ) from error
    forget_pages(program)  # which it has laid out anew, and looks at no more
    if on_gpu and "CUDAExecutionProvider" not in session.get_providers():
        raise LoadError(
            f"onnxruntime cannot use {device}: its CUDA libraries do not load. Install the CUDA "
            "and cuDNN versions of this onnxruntime-gpu, or start TorchServe without GPUs."
        )
    return session


def _maps_tensors() -> bool:
    version = tuple(int(each) for each in onnxruntime.__version__.split(".")[:2])
    return version >= _MAPS_TENSORS


def _mapped(program: Path, options: onnxruntime.SessionOptions) -> str | bytes:
    """The program with its large tensors mapped from its file, which takes less time and memory
    than to read them; its path where that cannot be had."""
    if not _maps_tensors():
        return str(program)
    try:
        from d2serve.kernels.onnxruntime.program import mapped
    except ImportError:  # an archive brings the handlers, but not the kernels
        return str(program)
    return mapped(program, options)


def _check_names(program: Path, spec: ModelSpec, session: onnxruntime.InferenceSession) -> None:
    # Those that have values of their own in the file, so that whoever has it alone need give none.
    optional = session.get_overridable_initializers()
    inputs = [each.name for each in (*session.get_inputs(), *optional)]
    outputs = [each.name for each in session.get_outputs()]
    if inputs != list(spec.inputs) or not set(answers_of(spec)) <= set(outputs):
        raise LoadError(
            f"{program.name} does not match its spec: it has the inputs {inputs} and outputs "
            f"{outputs}, expected the inputs {list(spec.inputs)} and the outputs "
            f"{list(answers_of(spec))}. Export the model again."
        )
