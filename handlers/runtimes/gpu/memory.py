"""Memory on an NVIDIA GPU, by CUDA's own Python bindings: buffers that grow and are used again."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from cuda.bindings import runtime as cuda


class CudaError(RuntimeError):
    """CUDA refused a call; the message is CUDA's."""


def checked(answer: tuple[Any, ...]) -> Any:
    """What a call of CUDA's gives beside its status.

    Raises:
        CudaError: it failed.
    """
    status, *values = answer
    if status != cuda.cudaError_t.cudaSuccess:
        raise CudaError(f"CUDA: {cuda.cudaGetErrorName(status)[1].decode()}")
    return values[0] if values else None


def device_count() -> int:
    """GPUs that this process sees; 0 where there is no driver."""
    status, count = cuda.cudaGetDeviceCount()
    return int(count) if status == cuda.cudaError_t.cudaSuccess else 0


def use_device(number: int) -> None:
    """Make a GPU the current one of this thread.

    Raises:
        CudaError: it is not there.
    """
    checked(cuda.cudaSetDevice(number))


def new_stream() -> int:
    """A stream on the current GPU: calls on it run one after the other."""
    return int(checked(cuda.cudaStreamCreate()))


def wait_for(stream: int) -> None:
    """Wait until all that a stream was given is done.

    Raises:
        CudaError: something of it failed.
    """
    checked(cuda.cudaStreamSynchronize(stream))


def device_name(number: int) -> str:
    """The GPU's name and compute capability, for which engines are built."""
    found = checked(cuda.cudaGetDeviceProperties(number))
    return f"{found.name.decode()} {found.major}.{found.minor}"


class Buffer:
    """Memory on the current GPU, which grows when more is wanted and never shrinks."""

    def __init__(self) -> None:
        self.address = 0
        self._size = 0

    def reserve(self, size: int) -> int:
        """The address of ``size`` bytes at least; what was there before is lost if it grows.

        Raises:
            CudaError: the GPU has too little memory.
        """
        if size > self._size or not self.address:
            self.release()
            self.address = int(checked(cuda.cudaMalloc(max(size, 1))))
            self._size = size
        return self.address

    def release(self) -> None:
        """Give the memory back."""
        if self.address:
            checked(cuda.cudaFree(self.address))
            self.address, self._size = 0, 0

    def fill(self, array: npt.NDArray[np.generic], stream: int) -> int:
        """Copy an array, contiguous in C's order, to the GPU; its address there."""
        address = self.reserve(array.nbytes)
        kind = cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        checked(cuda.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, stream))
        return address

    def read(self, shape: tuple[int, ...], dtype: Any, stream: int) -> npt.NDArray[np.generic]:
        """The array that lies at the beginning; the stream must be waited for before it is used."""
        array: npt.NDArray[np.generic] = np.empty(shape, dtype)
        if array.nbytes:
            kind = cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
            checked(
                cuda.cudaMemcpyAsync(array.ctypes.data, self.address, array.nbytes, kind, stream)
            )
        return array
