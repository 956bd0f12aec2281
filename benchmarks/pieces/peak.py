"""The most that this machine can compute: the rate of large matrix products or of a large
convolution, whichever is higher. It is measured, not read from a data sheet.

torch's own kernels are used in every precision (MKL and oneDNN behind ``torch.mm`` and
``conv2d``; ``torch._int_mm`` for int8). One multiplication with one addition is two operations.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch

from benchmarks.served.sides import Precision

# Large enough that threads and loops cost nothing, small enough for a quarter of a second.
_SIDE = 2048
_CHANNELS, _HEIGHT, _WIDTH = 256, 100, 132
_RUNS_TO_CHOOSE, _RUNS = 3, 2


@contextmanager
def threads_of_torch(threads: int) -> Iterator[None]:
    """While this lasts, torch uses that many threads in this process."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def peak(precision: Precision, threads: int) -> float:
    """The rate reached now, in operations per second: the best of a few runs."""
    with threads_of_torch(threads), torch.inference_mode():
        operations, run = _fastest(precision, threads)
        return operations / _best_seconds(run, _RUNS)


@cache
def _fastest(precision: Precision, threads: int) -> tuple[float, Callable[[], object]]:
    with threads_of_torch(threads), torch.inference_mode():
        kernels = _kernels(precision)
        rates = [n / _best_seconds(run, _RUNS_TO_CHOOSE) for n, run in kernels]
    return kernels[rates.index(max(rates))]


def _best_seconds(run: Callable[[], object], runs: int) -> float:
    best = float("inf")
    for _ in range(runs + 1):  # the first also warms up
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def _kernels(precision: Precision) -> list[tuple[float, Callable[[], object]]]:
    square = 2.0 * _SIDE**3
    if precision == "int8":
        whole = torch.randint(-100, 100, (_SIDE, _SIDE), dtype=torch.int8)
        return [(square, lambda: torch._int_mm(whole, whole))]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.randn(_SIDE, _SIDE).to(dtype)
    image = _channels_last(torch.randn(1, _CHANNELS, _HEIGHT, _WIDTH).to(dtype))
    small, large = (
        _channels_last(torch.randn(_CHANNELS, _CHANNELS, size, size).to(dtype)) for size in (1, 3)
    )
    pixel = 2.0 * _CHANNELS**2 * _HEIGHT * _WIDTH
    return [
        (square, lambda: torch.mm(matrix, matrix)),
        (pixel, lambda: torch.conv2d(image, small)),
        (pixel * 9, lambda: torch.conv2d(image, large, padding=1)),
    ]


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)
