"""What an operator does to a server that is asked all the time: stops, starts and upgrades it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Protocol

from benchmarks.shared.errors import BenchError
from benchmarks.soak.serving import Log, Served
from benchmarks.soak.traffic import MODEL
from d2serve.client.connection.credentials import KeyFile
from d2serve.client.errors import ClientError

UPGRADE, RESTART = "upgrade", "restart"
_SECONDS_BETWEEN = 20.0
_LOST = "and lost"
"""In what ``d2serve serve`` says where it did not answer everything before it stopped."""
_NOT_RENEWED = "could not be renewed"


@dataclass(frozen=True)
class Deed:
    """One of them."""

    what: str
    seconds: float
    """Since the start of the traffic."""
    took: float
    failure: str = ""


class Operator(threading.Thread):
    """Upgrades and restarts the server in turn, in a thread, and counts its tokens."""

    def __init__(self, served: Served, seconds: float) -> None:
        """
        Args:
            served: which is ready.
            seconds: for which it goes on; at least one of each is done.
        """
        super().__init__(name="operator", daemon=True)
        self.deeds: list[Deed] = []
        self._served = served
        self._began = time.monotonic()
        self._ends = self._began + seconds

    def run(self) -> None:
        while time.monotonic() < self._ends or len(self.deeds) < 2:
            time.sleep(_SECONDS_BETWEEN)
            what = (UPGRADE, RESTART)[len(self.deeds) % 2]
            began = time.monotonic()
            try:
                failure = self._upgrade() if what == UPGRADE else self._restart()
            except (BenchError, ClientError, OSError) as error:
                failure = f"{type(error).__name__}: {error}"
            at, took = began - self._began, time.monotonic() - began
            self.deeds.append(Deed(what, round(at, 1), round(took, 1), failure))
            if not self._served.is_ready():
                return

    def _upgrade(self) -> str:
        return self._served.upgrade() or self._answers_now()

    def _restart(self) -> str:
        said = len(self._served.said)
        status = self._served.stop()
        told = self._served.said[said:]
        self._served.start()
        if status or _LOST in told:
            return f"`d2serve serve` ended with {status}: {told.strip()}"
        return self._answers_now()

    def _answers_now(self) -> str:
        """What is wrong with the version that answers, or nothing."""
        with self._served.management() as management:
            (model,) = management.describe(MODEL)
        wanted = f"{self._served.version}.0"
        return "" if model.version == wanted else f"{model.version} answers, expected {wanted}"


class TokenCounter(threading.Thread):
    """Counts the tokens for predictions that a server has had, until it is told to stop."""

    def __init__(self, served: Served) -> None:
        super().__init__(name="tokens", daemon=True)
        self.tokens: set[str] = set()
        self._key_file = KeyFile(served.key_file)
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(1.0):
            try:
                self.tokens.add(self._key_file.inference)
            except ClientError:  # the server is being restarted
                continue

    def stop(self) -> None:
        self._over.set()
        self.join()


class Spoken(Protocol):
    """What is asked of a ``Served`` in the end."""

    log: Log

    @property
    def said(self) -> str: ...


def failures_of_operating(
    deeds: list[Deed], tokens: int, minutes: float, served: Spoken
) -> list[str]:
    """What went wrong beside the answers, a sentence each.

    Args:
        deeds: that were done.
        tokens: how many different ones there were in these minutes.
    """
    failed = (each for each in deeds if each.failure)
    failures = [f"{each.what} after {each.seconds:.0f} s: {each.failure}" for each in failed]
    for what in (UPGRADE, RESTART):
        if all(each.what != what for each in deeds):
            failures.append(f"no {what} was done")
    if tokens < minutes:
        failures.append(f"{tokens} tokens in {minutes:g} minutes, though each holds for one")
    if _NOT_RENEWED in served.said:
        failures.append(f"tokens {_NOT_RENEWED}: {served.said}")
    if served.log.no_objects:
        count, line = len(served.log.no_objects), served.log.no_objects[0]
        failures.append(f"{count} lines of the log are no JSON objects: {line[:200]!r}")
    return failures


def told_of(deeds: list[Deed]) -> str:
    """How often what was done, and how long it took."""
    told = []
    for what in (UPGRADE, RESTART):
        took = sorted(each.took for each in deeds if each.what == what)
        if took:
            seconds = f"{took[0]:.0f} to {took[-1]:.0f}" if len(took) > 1 else f"{took[0]:.0f}"
            told.append(f"{len(took)} {what}{'s' * (len(took) > 1)} of {seconds} s")
    return ", ".join(told)
