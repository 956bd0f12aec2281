"""A thousand requests, and images of ever new sizes.

Some faults show only then: memory that grows, and first visits of a size on which a runtime
compiles or plans anew.

Both are measured through TorchServe with the small trained model, for a thousand requests to the
full-size one would take half an hour. A fresh worker gets images of different sizes in random
order, each a second time when some others have come, so that a machine whose speed drifts does so
for both; then more of ever new sizes and of several formats, with its memory read on the way. In
the end, when no size is new, it gets the first ones once more in the same manner: that they differ
then, too, is noise.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks.served.small_model import small_config
from benchmarks.serving.hosts import Hosts, Served
from benchmarks.serving.plan import BenchPlan, Setup
from d2serve.export.reading.config import ModelConfig
from d2serve.handlers.requests.preprocessing import resized_shape
from d2serve.server.measuring.drawn_photo import photo
from d2serve.server.measuring.figures import Figure, median_of

_SHORTEST, _LONGEST = 200, 640
_FORMATS = ("JPEG", "JPEG", "PNG", "WEBP")


@dataclass(frozen=True)
class Sizes:
    """Two visits of each of several sizes to one worker."""

    input_pixels: tuple[int, ...]
    """Of what the model gets, in the order of the first visits."""
    first: tuple[float, ...]
    """Seconds of the first visit of each size."""
    again: tuple[float, ...]
    """Seconds of the second one."""

    def spread(self, times: Sequence[float], per_pixel: bool) -> float:
        """p99 by p50 of times, per pixel of the model's input if so wanted."""
        values = self._per_pixel(times) if per_pixel else list(times)
        return float(np.percentile(values, 99) / np.percentile(values, 50))

    @property
    def first_by_again(self) -> float:
        """p99 of the time per pixel of the first visits, by that of the second ones."""
        first, again = (self._per_pixel(each) for each in (self.first, self.again))
        return float(np.percentile(first, 99) / np.percentile(again, 99))

    def _per_pixel(self, times: Sequence[float]) -> list[float]:
        return [t / n for t, n in zip(times, self.input_pixels)]


@dataclass(frozen=True)
class LongRun:
    """One runtime with the small model."""

    fresh: tuple[Sizes, ...]
    """Workers that had answered nothing before."""
    known: tuple[Sizes, ...]
    """A worker that had answered all these sizes before: both visits are of the same kind."""
    spread: Figure
    """p99 by p50 of the first visits, per pixel of the model's input, over the fresh workers."""
    plain_spread: Figure
    """The same, not per pixel."""
    again_spread: Figure
    """Per pixel, of the second visits."""
    rss_few: float
    """MiB after few requests, just after free memory was given back."""
    rss_many: float
    """The same after many."""

    @property
    def growth(self) -> float:
        """Memory after many requests by that after few."""
        return self.rss_many / self.rss_few


def first_by_again(runs: Sequence[Sizes]) -> Figure:
    """Median over some runs, with the lowest and the highest."""
    return median_of([each.first_by_again for each in runs])


class Pictures:
    """Encoded pictures of random sizes, the same ones in each run."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._photo = Image.fromarray(photo(_LONGEST, _LONGEST, seed))

    def next_size(self) -> tuple[int, int]:
        """(height, width)"""
        height, width = self._random.integers(_SHORTEST, _LONGEST + 1, 2)
        return int(height), int(width)

    def encoded(self, size: tuple[int, int], file_format: str) -> bytes:
        """The picture, scaled to a size."""
        file = io.BytesIO()
        self._photo.resize((size[1], size[0])).save(file, file_format)
        return file.getvalue()

    def mixed(self) -> bytes:
        """Of a new size and any format."""
        return self.encoded(self.next_size(), str(self._random.choice(_FORMATS)))


def long_runs(
    hosts: Hosts, plan: BenchPlan, cores: int, advance: Callable[[], None]
) -> dict[str, LongRun]:
    """Measure every side of the long run: fresh workers in turns, then memory one by one.

    Args:
        hosts: with the archives of the small model.
        plan: of the run.
        cores: threads of the one worker.
        advance: called plan.fresh_workers times, and once more, for each side.

    Raises:
        ClientError, BenchError: a side cannot be started or does not answer.
    """
    setup = Setup(1, cores)
    config = small_config()
    fresh: dict[str, list[Sizes]] = {side: [] for side in plan.long_run_sides}
    known: dict[str, list[Sizes]] = {side: [] for side in plan.long_run_sides}
    grown: dict[str, tuple[float, float]] = {}
    for turn in range(plan.fresh_workers):
        for side in plan.long_run_sides:
            served = hosts.start(side, setup)
            fresh[side].append(_sizes(served, plan, config, seed=plan.seed + turn))
            advance()
            if turn == plan.fresh_workers - 1:
                grown[side] = _memory(served, plan)
                advance()
                known[side] += [
                    _sizes(served, plan, config, seed=plan.seed + turn)
                    for _ in range(plan.known_rounds)
                ]
            served.stop()
    return {side: _long_run(fresh[side], known[side], *grown[side]) for side in plan.long_run_sides}


def _long_run(
    fresh: Sequence[Sizes], known: Sequence[Sizes], rss_few: float, rss_many: float
) -> LongRun:
    return LongRun(
        tuple(fresh),
        tuple(known),
        spread=median_of([each.spread(each.first, True) for each in fresh]),
        plain_spread=median_of([each.spread(each.first, False) for each in fresh]),
        again_spread=median_of([each.spread(each.again, True) for each in fresh]),
        rss_few=rss_few,
        rss_many=rss_many,
    )


def _sizes(served: Served, plan: BenchPlan, config: ModelConfig, seed: int) -> Sizes:
    pictures = Pictures(seed)
    sizes: dict[tuple[int, int], tuple[int, int]] = {}
    while len(sizes) < plan.sizes:  # different for the model, not only as they are sent
        size = pictures.next_size()
        shape = resized_shape(*size, config.min_size_test, config.max_size_test)
        sizes.setdefault(shape, size)
    images = [pictures.encoded(size, "JPEG") for size in sizes.values()]
    times: tuple[list[float], list[float]] = ([], [])
    for visit, index in visits(len(images), plan.sizes_between):
        times[visit].append(_seconds(served, images[index]))
    pixels = tuple(height * width for height, width in sizes)
    return Sizes(pixels, tuple(times[0]), tuple(times[1]))


def visits(sizes: int, between: int) -> Iterator[tuple[int, int]]:
    """The order of requests: (0, index of a size) for its first visit, (1, index) for its second,
    when so many other sizes have had their first."""
    for turn in range(sizes + between):
        if turn < sizes:
            yield 0, turn
        if turn >= between:
            yield 1, turn - between


def _seconds(served: Served, image: bytes) -> float:
    start = time.perf_counter()
    served.asks[0](image)
    return time.perf_counter() - start


def _memory(served: Served, plan: BenchPlan) -> tuple[float, float]:
    pictures = Pictures(plan.seed + plan.fresh_workers)
    sent = 2 * plan.sizes
    after: list[float] = []
    for until in (plan.few_requests, plan.many_requests):
        for _ in range(max(until - sent, 0)):
            served.asks[0](pictures.mixed())
        sent = max(until, sent)
        time.sleep(plan.pause_seconds)
        after.append(served.memory().rss)
    return after[0], after[1]
