"""What a soak must show to pass, decided before anybody looks at a curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.soak.asking import Outcomes
from benchmarks.soak.processes import Sample, Slope, slope_of

MOST_MB_PER_HOUR = 5.0
# Free memory is given back every 20 s (handlers/torchserve/memory.py). In between, RSS is some
# megabytes or tens of them more, as the sizes of images happen to follow each other: what is kept
# is the least.
_SECONDS_FOR_A_FLOOR = 40.0
_FEWEST_FLOORS = 5
"""That can show growth: fewer come in any order by chance, more often than once in twenty times."""
WARM_UP = 1 / 3
"""Of the whole time. Until then every size has come several times, and libraries are loaded."""


@dataclass(frozen=True)
class Course:
    """One process after the warm-up."""

    floors: list[tuple[float, float]]
    """(seconds, MB): the least RSS of each stretch."""
    slope: Slope
    """Of those."""
    files: tuple[int, int]
    """Between rounds: most in the first third, least in the last. Connections come and go."""
    threads: tuple[int, int]


def after_warm_up(samples: Sequence[Sample]) -> list[Sample]:
    """Those that count."""
    start = WARM_UP * samples[-1].seconds
    return [each for each in samples if each.seconds >= start]


def floors_of(rss: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The least of each stretch of (seconds, MB), three stretches at least."""
    start, end = rss[0][0], rss[-1][0]
    count = max(3, int((end - start) / _SECONDS_FOR_A_FLOOR))
    stretches: list[list[tuple[float, float]]] = [[] for _ in range(count)]
    for seconds, held in rss:
        at = int((seconds - start) / (end - start) * count)
        stretches[min(at, count - 1)].append((seconds, held))
    return [min(each, key=lambda sample: sample[1]) for each in stretches if each]


def courses_of(samples: Sequence[Sample]) -> dict[str, Course]:
    """Each process that was there to the end."""
    counted = after_warm_up(samples)
    quiet = [each for each in counted if each.quiet]
    third = max(1, len(quiet) // 3)
    courses = {}
    for name in counted[-1].holdings:
        held = [each.holdings[name] for each in quiet]
        floors = floors_of([(each.seconds, each.holdings[name].least) for each in counted])
        courses[name] = Course(
            floors,
            slope_of(floors),
            (max(each.files for each in held[:third]), min(each.files for each in held[-third:])),
            (
                max(each.threads for each in held[:third]),
                min(each.threads for each in held[-third:]),
            ),
        )
    return courses


def failures_of(
    courses: dict[str, Course], workers: Sequence[str], outcomes: Outcomes, replaced: Sequence[str]
) -> list[str]:
    """What must not be, a sentence each; none where the soak is passed.

    A slope that may as well be chance (its interval has 0 in it, or there are few floors) is none;
    a longer soak tells.
    """
    failures = [f"{name} is another process, or not READY" for name in replaced]
    for request, times in [*outcomes.unexpected.items(), *outcomes.unanswered.items()]:
        failures.append(f"{times} times {request}")
    for name, course in courses.items():
        slope = course.slope
        is_beyond_chance = slope.low > 0 and len(course.floors) >= _FEWEST_FLOORS
        if name in workers and slope.value >= MOST_MB_PER_HOUR and is_beyond_chance:
            failures.append(f"{name} grows by {slope.value:.1f} MB an hour")
        for what, (first, last) in (("open files", course.files), ("threads", course.threads)):
            if last > first:
                failures.append(f"{name} had at most {first} {what}, and has at least {last}")
    return failures


def failures_of_convolution(ways: Sequence[str], said: Mapping[str, int]) -> list[str]:
    """Whether the soak was of Winograd's convolution, where this machine has it.

    Args:
        ways: in which it can be run here.
        said: what workers said of their convolutions, and how often.
    """
    if not ways or said:
        return []
    return [
        f"Winograd's convolution is installed ({', '.join(ways)}) and asked for, and no worker "
        "said in the log that it runs with it: the soak was of something else"
    ]
