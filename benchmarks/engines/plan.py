"""How often, how long and with how much the engines are measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """One run, in which the engines take turns."""

    workers: int = 2
    """Processes of each engine that have the model."""
    threads: int = 1
    """Of each of them, for the model."""
    clients: int = 8
    """Each sends its next request when it has its answer."""
    images: int = 30
    """Different ones that are sent."""
    rounds: int = 7
    seconds: float = 8.0
    """Of an engine's turn in a round; before the first, as many warm it up."""
    idle_seconds: float = 10.0
    """For what an engine takes when nobody asks it."""
    kills: int = 2
    """Turns in which one of an engine's workers is killed."""
    seconds_before_kill: float = 4.0
    seconds_after_kill: float = 22.0
