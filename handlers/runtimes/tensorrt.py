"""Runs ONNX programs on TensorRT, on an NVIDIA GPU, without torch in the worker.

The archive holds the ONNX file. An engine is built from it where it is served, once for each kind
of GPU (gpu/engine_files.py). It was not run by us: there was no GPU (docs/gpu.md).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorrt as trt

from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.details import Details, inputs_of
from d2serve.handlers.runtimes.gpu import memory
from d2serve.handlers.runtimes.gpu.engine_building import build_engine, longest_side
from d2serve.handlers.runtimes.gpu.engine_files import engine_of, forget
from d2serve.handlers.runtimes.gpu.memory import Buffer
from d2serve.handlers.runtimes.raw_outputs import Float32, RawOutputs, Size
from d2serve.handlers.spec.model_spec import ModelSpec

_log = logging.getLogger(__name__)


class TensorRtRuntime:
    """An engine on one GPU; one call at a time, since they share its memory."""

    on_gpu = True

    def __init__(self, engine: trt.ICudaEngine, spec: ModelSpec, device: int) -> None:
        self._engine, self._device = engine, device
        self._spec = spec
        self._context = engine.create_execution_context()
        self._stream = memory.new_stream()
        self._given = {name: Buffer() for name in spec.inputs}
        self._answered = {name: _Output() for name in spec.outputs}
        for name, output in self._answered.items():
            self._context.set_output_allocator(name, output)
        self._one_call = threading.Lock()

    def set_threads(self, threads: int) -> None:
        """See ``Runtime.set_threads``: the GPU has the work, so there is nothing to set."""

    def run(
        self,
        images: Sequence[Float32],
        sizes: Sequence[Size] = (),
        details: Sequence[Details] = (),
    ) -> list[RawOutputs]:
        """See ``Runtime.run``; one image after the other."""
        with self._one_call:
            memory.use_device(self._device)  # of each thread its own
            given = inputs_of(self._spec, images, sizes, details)
            return [self._run_one(dict(zip(self._spec.inputs, each))) for each in given]

    def _run_one(self, given: Mapping[str, npt.NDArray[np.generic]]) -> RawOutputs:
        # Copies to the GPU read these while the stream runs: they are kept until it is waited for.
        kept = {name: np.ascontiguousarray(array) for name, array in given.items()}
        for name, array in kept.items():
            if self._engine.get_tensor_location(name) == trt.TensorLocation.HOST:
                address = array.ctypes.data
            else:
                address = self._given[name].fill(array, self._stream)
            self._context.set_input_shape(name, array.shape)
            self._context.set_tensor_address(name, address)
        if not self._context.execute_async_v3(self._stream):
            raise RuntimeError("TensorRT could not run the engine; its reason is in the log")
        found = {name: self._read(name) for name in self._spec.outputs}
        memory.wait_for(self._stream)
        return found

    def _read(self, name: str) -> npt.NDArray[Any]:
        output = self._answered[name]
        dtype = trt.nptype(self._engine.get_tensor_dtype(name))
        return output.buffer.read(output.shape, dtype, self._stream)


class _Output(trt.IOutputAllocator):  # type: ignore[misc]
    """An output whose size is known only when the engine has run."""

    def __init__(self) -> None:
        trt.IOutputAllocator.__init__(self)
        self.buffer = Buffer()
        self.shape: tuple[int, ...] = ()

    def reallocate_output_async(
        self, _name: str, _memory: int, size: int, _alignment: int, _stream: int
    ) -> int:
        """TensorRT's: memory for so many bytes. CUDA's is aligned for all that it asks."""
        return self.buffer.reserve(size)

    def notify_shape(self, _name: str, shape: Sequence[int]) -> None:
        """TensorRT's: the shape of what it has written."""
        self.shape = tuple(shape)


class _Logger(trt.ILogger):  # type: ignore[misc]
    """What TensorRT says, in the worker's log."""

    _LEVELS = (logging.ERROR, logging.ERROR, logging.WARNING, logging.DEBUG, logging.DEBUG)

    def __init__(self) -> None:
        trt.ILogger.__init__(self)

    def log(self, severity: Any, message: str) -> None:
        """TensorRT's: a line and how grave it is, INTERNAL_ERROR the first."""
        _log.log(self._LEVELS[int(severity)], "TensorRT: %s", message)


def load(program: Path, spec: ModelSpec, device: str, threads: int) -> TensorRtRuntime:
    """Load an ONNX program as an engine, which is built first where there is none yet.

    Raises:
        LoadError: no GPU is given or seen, TensorRT cannot read the program or build the engine, or
            its inputs and outputs are not those of the spec.
    """
    del threads  # see set_threads
    number = _gpu(device)
    memory.use_device(number)
    logger = _Logger()
    facts = (
        spec.sha256[spec.program],
        memory.device_name(number),
        str(trt.__version__),
        spec.precision,
        str(longest_side(spec)),
    )

    def build() -> bytes:
        _log.info("d2serve: building the TensorRT engine of %s, some minutes", spec.name)
        return build_engine(program, spec, logger)

    engine = _loaded(facts, build, logger)
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    missing = [name for name in (*spec.inputs, *spec.outputs) if name not in names]
    if missing:
        raise LoadError(
            f"{program.name} does not match its spec: it has the inputs and outputs {names}, "
            f"without {missing}. Export the model again."
        )
    return TensorRtRuntime(engine, spec, number)


def _loaded(facts: tuple[str, ...], build: Callable[[], bytes], logger: _Logger) -> trt.ICudaEngine:
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(engine_of(facts, build))
    if engine is None:  # a file of a driver that has changed, or one that is damaged
        forget(facts)
        engine = runtime.deserialize_cuda_engine(engine_of(facts, build))
    if engine is None:
        raise LoadError(
            f"TensorRT {trt.__version__} cannot load the engine that it has built; its reason is "
            "in the log. Install the driver that this TensorRT asks for."
        )
    return engine


def _gpu(device: str) -> int:
    seen = memory.device_count()
    number = int(device.partition(":")[2] or 0)
    if not device.startswith("cuda") or number >= seen:
        raise LoadError(
            f"Asked to run on {device}, where this process sees {seen} GPUs; TensorRT programs run "
            "on an NVIDIA GPU only. Start TorchServe with number_of_gpu=1 or more where the GPU's "
            "driver is, or export with --runtime onnxruntime."
        )
    return number
