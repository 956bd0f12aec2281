"""Measures engines that run side by side, one at a time, in turns."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.engines.asking import Asking, Turn, ask
from benchmarks.engines.engines import ENGINES, Running
from benchmarks.engines.plan import Plan
from benchmarks.engines.processes import Taken
from benchmarks.shared.errors import BenchError
from d2serve.export.request import Progress
from tests.engines.reference import MODEL, Reference

_WINDOW = 2.0
"""Seconds over which a rate is looked at after a kill."""
_SECONDS_TO_RECOVER = 20.0
FULL = 0.9
"""Of the rate before: from there on it is full again."""


@dataclass(frozen=True)
class Killed:
    """What a killed worker cost."""

    turn: Turn
    at: float
    """When, as ``time.perf_counter`` has it."""
    lost: int
    """Requests that failed."""
    failures: tuple[str, ...]
    """How, each once."""
    seconds: float | None
    """From the kill until all was as before; None where it was not by the end."""


@dataclass
class Measured:
    """Of one engine."""

    turns: list[Turn] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    """Of each turn, of all its processes."""
    idle: float = 0.0
    """Cores that it takes when nobody asks."""
    taken: Taken = field(default_factory=lambda: Taken(0, 0))
    """After the last round."""
    killed: list[Killed] = field(default_factory=list)


def measure(
    running: Mapping[str, Running], reference: Reference, plan: Plan, progress: Progress
) -> dict[str, Measured]:
    """Measure every engine.

    Args:
        running: engines that are ready.
        reference: the images, and what TorchServe answers.
        plan: of the run.
        progress: is told of each turn.

    Raises:
        BenchError: an engine answers something else, or fails while nothing is killed.
    """
    files = reference.images[: plan.images]
    images = [file.read_bytes() for file in files]
    expected = [reference.answers[file.name] for file in files]
    found = {name: Measured() for name in running}
    progress.begin("Comparing and warming up", len(running))
    for name, engine in running.items():
        _compare(name, engine, images, expected)
        _turn(name, engine, images, plan)
        progress.advance()
    progress.begin("Asking", plan.rounds * len(running))
    for index in range(plan.rounds):
        for name in _in_turn(list(running), index):
            before = running[name].processes.cpu_seconds()
            found[name].turns.append(_turn(name, running[name], images, plan))
            found[name].cpu_seconds.append(running[name].processes.cpu_seconds() - before)
            progress.advance()
    progress.begin("Leaving alone", 1)
    before_all = {name: engine.processes.cpu_seconds() for name, engine in running.items()}
    time.sleep(plan.idle_seconds)
    for name, engine in running.items():
        took = engine.processes.cpu_seconds() - before_all[name]
        found[name].idle = took / plan.idle_seconds
        found[name].taken = engine.processes.taken()
    progress.advance()
    progress.begin("Killing workers", plan.kills * len(running))
    for index in range(plan.kills):
        for name in _in_turn(list(running), index):
            # One that never replaced the first has no second that could be killed.
            if running[name].is_whole(_SECONDS_TO_RECOVER):
                found[name].killed.append(_kill(running[name], images, plan))
            progress.advance()
    return found


def _in_turn(names: list[str], index: int) -> list[str]:
    """Each round begins with another one."""
    first = index % len(names)
    return names[first:] + names[:first]


def _compare(name: str, engine: Running, images: list[bytes], expected: list[bytes]) -> None:
    connection = http.client.HTTPConnection(*engine.address, timeout=60)
    replies = [ask(connection, MODEL, image) for image in images]
    connection.close()
    same = sum(got == wanted for got, wanted in zip(replies, expected))
    if same != len(images):
        label = ENGINES[name].label
        raise BenchError(f"{label} answers {same} of {len(images)} images as TorchServe does.")


def _turn(name: str, engine: Running, images: list[bytes], plan: Plan) -> Turn:
    with Asking(engine.address, MODEL, images, plan.clients) as asking:
        time.sleep(plan.seconds)
    if asking.turn.failures or not asking.turn.answered:
        raise BenchError(f"{ENGINES[name].label} failed: {asking.turn.failures[:3]}")
    return asking.turn


def _kill(engine: Running, images: list[bytes], plan: Plan) -> Killed:
    with Asking(engine.address, MODEL, images, plan.clients) as asking:
        time.sleep(plan.seconds_before_kill)
        killed = time.perf_counter()
        engine.kill_a_worker()
        time.sleep(plan.seconds_after_kill)
    turn = asking.turn
    before = [each for each in turn.answered if each.ended < killed]
    rate = len(before) / (killed - turn.began)
    told = sorted({failure.partition(" b'")[0] for failure in turn.failures})
    back = seconds_until_full(turn, killed, rate)
    return Killed(turn, killed, len(turn.failures), tuple(told), back)


def seconds_until_full(turn: Turn, killed: float, rate: float) -> float | None:
    """Seconds from a kill until nothing fails any more and the rate is full again, and stays so to
    the end; None if never.

    Args:
        turn: in which it happened.
        killed: when, as ``time.perf_counter`` has it.
        rate: images a second before.
    """
    ends = [each.ended for each in turn.answered if each.ended >= killed]

    def rate_in(begin: float, end: float) -> float:
        return sum(begin <= each < end for each in ends) / (end - begin)

    begin = max([killed, *(each.ended for each in turn.sent if each.failed)])
    while begin + _WINDOW <= turn.ended:
        window = rate_in(begin, begin + _WINDOW)
        if min(window, rate_in(begin, turn.ended)) >= FULL * rate:
            return begin - killed
        begin += 0.1
    return None
