"""When a server counts as ready, for any history of what the management API said."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from d2serve.server.probes.judging import ReadinessJudge
from d2serve.server.torchserve.models_look import VersionState

Moment = list[VersionState]


def state(
    version: str = "1.0",
    ready: int = 1,
    min_workers: int = 1,
    *,
    name: str = "m",
    is_default: bool = True,
) -> VersionState:
    return VersionState(name, version, is_default, min_workers, ready)


def judged(*moments: Moment, needs_a_model: bool = True) -> list[str]:
    """The reasons at the last of these moments."""
    judge = ReadinessJudge(needs_a_model)
    for moment in moments[:-1]:
        judge.reasons(moment)
    return judge.reasons(moments[-1])


class TestOneModel:
    def test_ready_workers_are_ready(self) -> None:
        assert judged([state(ready=2, min_workers=2)]) == []

    def test_a_lost_worker_is_named(self) -> None:
        whole, part = state(ready=2, min_workers=2), state(ready=1, min_workers=2)
        assert judged([whole], [part]) == ["m 1.0: 1 of 2 workers are READY"]
        assert judged([part]) == ["m 1.0: 1 of 2 workers are READY"], "at the first look"
        assert judged([whole], [part], [whole]) == []

    def test_scaled_up_it_goes_on_being_ready(self) -> None:
        more = [state(ready=1, min_workers=3)]
        assert judged([state()], more) == []
        all_of_them = [state(ready=3, min_workers=3)]
        assert judged([state()], more, all_of_them, more) == ["m 1.0: 1 of 3 workers are READY"]

    def test_scaled_down_it_is_held_to_less(self) -> None:
        assert judged([state(ready=3, min_workers=3)], [state(ready=1, min_workers=1)]) == []

    def test_scaled_to_none_it_answers_nothing(self) -> None:
        none = [state(ready=0, min_workers=0)]
        assert judged([state()], none) == ["no model has a READY worker"]
        assert judged([state()], [*none, state(name="n")]) == []

    def test_without_a_model(self) -> None:
        assert judged([]) == ["no model is registered"]
        assert judged([], needs_a_model=False) == []
        assert judged([state()], []) == ["no model is registered"]


class TestUpgrade:
    OLD = state("1.0")

    def test_a_version_that_is_being_registered_changes_nothing(self) -> None:
        new = state("2.0", ready=0, is_default=False)
        assert judged([self.OLD], [self.OLD, new]) == []

    def test_once_ready_it_counts(self) -> None:
        new = state("2.0", is_default=False)
        broken = state("2.0", ready=0, is_default=False)
        assert judged([self.OLD], [self.OLD, new], [self.OLD, broken]) == [
            "m 2.0: 0 of 1 workers are READY"
        ]

    def test_a_default_that_was_never_ready_counts(self) -> None:
        old, new = state("1.0", is_default=False), state("2.0", ready=0)
        assert judged([self.OLD], [old, new]) == ["m 2.0: 0 of 1 workers are READY"]

    def test_what_is_unregistered_is_forgotten(self) -> None:
        old, new = state("1.0", is_default=False), state("2.0")
        assert judged([self.OLD], [old, new], [new]) == []
        again = state("1.0", ready=0, is_default=False)
        assert judged([self.OLD], [old, new], [new], [new, again]) == []

    def test_a_new_model_does_not_count_before_it_has_answered(self) -> None:
        new = state(name="n", ready=0)
        assert judged([self.OLD], [self.OLD, new]) == []
        assert judged([self.OLD], [self.OLD, state(name="n")], [self.OLD, new]) == [
            "n 1.0: 0 of 1 workers are READY"
        ]

    def test_the_first_model_of_an_empty_server(self) -> None:
        new = [state(ready=0)]
        assert judged([], new, needs_a_model=False) == ["no model has a READY worker"]
        assert judged([], new, [state()], needs_a_model=False) == []


@st.composite
def moments(draw: st.DrawFn) -> list[Moment]:
    """Any history of two models with up to three versions, of which one is the default."""
    history = []
    for _ in range(draw(st.integers(1, 8))):
        moment: Moment = []
        for name in ("m", "n"):
            versions = draw(st.lists(st.sampled_from("123"), unique=True, max_size=3))
            default = draw(st.sampled_from(versions)) if versions else ""
            moment += [
                state(
                    version,
                    draw(st.integers(0, 3)),
                    draw(st.integers(0, 3)),
                    name=name,
                    is_default=version == default,
                )
                for version in versions
            ]
        history.append(moment)
    return history


def is_ready(history: Sequence[Moment], needs_a_model: bool) -> bool:
    """The same from the whole history at once, as the documentation says it."""
    now = history[-1]
    for version in now:
        lives: list[VersionState] = []
        for number, moment in enumerate(history):
            same = [v for v in moment if (v.name, v.version) == (version.name, version.version)]
            lives = [*lives, *same] if same else []
            if same and number == 0:  # the start ended with all its workers
                lives.append(state(ready=same[0].min_workers))
        reached = max(v.ready for v in lives)
        needed = min(version.min_workers, reached)
        if version.is_default and version.min_workers and has_answered(history, version.name):
            needed = max(needed, 1)
        if version.ready < needed:
            return False
    return any(v.ready for v in now) or not (now or needs_a_model)


def has_answered(history: Sequence[Moment], name: str) -> bool:
    """Whether the model has had a READY worker since it was registered."""
    answered = False
    for number, moment in enumerate(history):
        of_it = [v for v in moment if v.name == name]
        here = any(v.ready or (number == 0 and v.min_workers) for v in of_it)
        answered = bool(of_it) and (answered or here)
    return answered


@settings(deadline=None, max_examples=300)
@given(moments(), st.booleans())
def test_any_history_gets_the_right_verdict(history: list[Moment], needs_a_model: bool) -> None:
    judge = ReadinessJudge(needs_a_model)
    for number, moment in enumerate(history):
        reasons = judge.reasons(moment)
        assert (not reasons) == is_ready(history[: number + 1], needs_a_model), (number, reasons)


@settings(deadline=None)
@given(moments(), moments())
def test_versions_on_their_way_never_make_a_ready_server_unready(
    history: list[Moment], others: list[Moment]
) -> None:
    """Whatever else is registered and is not READY: the verdict on a steady model stays."""
    steady = state(name="steady")
    judge = ReadinessJudge(needs_a_model=True)
    assert judge.reasons([steady]) == []
    for moment in [*history, *others]:
        coming = [VersionState(v.name, v.version, v.is_default, v.min_workers, 0) for v in moment]
        assert judge.reasons([steady, *coming]) == []
