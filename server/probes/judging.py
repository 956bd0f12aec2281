"""Decides from what the management API says whether a server is ready.

A version of a model is held to what it has reached: as many READY workers as it has had at once,
and no more than its minWorkers of now. So nothing that is only on its way makes a server unready:
not a second version that is being registered, not a first one of a new model, not a worker that is
being added. What has been reached must stay, until it is unregistered or scaled down.

The exception is the default version, which is what answers when a request names none. Once a model
has answered, its default version needs a READY worker, also if it never had one.
"""

from __future__ import annotations

from collections.abc import Sequence

from d2serve.server.torchserve.models_look import VersionState


class ReadinessJudge:
    """Judges the states of one server in the order in which they were seen."""

    def __init__(self, needs_a_model: bool) -> None:
        """
        Args:
            needs_a_model: whether the server was started with models.
        """
        self._needs_a_model = needs_a_model
        self._reached: dict[tuple[str, str], int] = {}
        self._have_answered: set[str] = set()
        self._is_first = True

    def reasons(self, states: Sequence[VersionState]) -> list[str]:
        """Why the server is not ready; nothing if it is.

        Args:
            states: every registered version. The first time they are taken for what the start
                ended with: every worker was READY then.
        """
        reached = {
            state.key: max(
                self._reached.get(state.key, 0),
                state.ready,
                state.min_workers if self._is_first else 0,
            )
            for state in states
        }
        self._is_first = False
        self._reached = reached  # a version that was unregistered is forgotten
        answering = {name for (name, _), most in reached.items() if most}
        names = {state.name for state in states}
        self._have_answered = (self._have_answered | answering) & names
        why = [
            f"{state.name} {state.version}: {state.ready} of {needed} workers are READY"
            for state in states
            if state.ready < (needed := self._needed(state))
        ]
        if not why and not any(state.ready for state in states):
            if states:
                why.append("no model has a READY worker")
            elif self._needs_a_model:
                why.append("no model is registered")
        return why

    def _needed(self, state: VersionState) -> int:
        needed = min(state.min_workers, self._reached[state.key])
        if state.is_default and state.min_workers and state.name in self._have_answered:
            return max(1, needed)
        return needed
