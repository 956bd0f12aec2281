"""The figures of the engines' benchmark: what a killed worker costs, and what the table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.engines.asking import Sent, Turn
from benchmarks.engines.engines import ENGINES
from benchmarks.engines.measuring import Killed, Measured, seconds_until_full
from benchmarks.engines.plan import Plan
from benchmarks.engines.processes import Taken
from benchmarks.engines.report import save_plot, table_of

RATE = 10.0
KILLED = 4.0
END = 26.0


def turn(gap: tuple[float, float] = (0, 0), failing: tuple[float, float] = (0, 0)) -> Turn:
    """Ten images a second, but half of them in the gap, and one of ten failing for a while."""
    ends = [index / RATE for index in range(int(END * RATE))]
    sent = [
        Sent(end - 0.1, end, "HTTP 500" if failing[0] <= end < failing[1] and not i % 10 else "")
        for i, end in enumerate(ends)
        if not (gap[0] <= end < gap[1] and i % 2)
    ]
    return Turn(0.0, END, tuple(sent))


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (turn(), 0.0),
        (turn(gap=(KILLED, 9.0)), 4.8),  # a window of 2 s may lack a tenth
        (turn(failing=(KILLED, 10.1)), 6.0),
        (turn(gap=(KILLED, END)), None),
        (turn(failing=(KILLED, END)), None),
        (turn(gap=(12.0, END)), None),  # full only for a while
    ],
)
def test_a_rate_is_full_again_when_it_stays_so_and_nothing_fails(
    of: Turn, expected: float | None
) -> None:
    found = seconds_until_full(of, KILLED, RATE)
    assert found == (expected if expected is None else pytest.approx(expected, abs=0.25))


def test_the_table_and_the_picture_have_every_engine(tmp_path: Path) -> None:
    killed = Killed(turn(), KILLED, 3, ("HTTP 500:",), None)
    found = {
        name: Measured([turn()] * 3, [1.0, 2.0, 3.0], 0.01, Taken(100.0, 50.0), [killed])
        for name in ENGINES
    }
    plan = Plan()
    table = table_of(found, plan)
    assert [row[0] for row in table.rows] == [each.label for each in ENGINES.values()]
    assert {len(row) for row in table.rows} == {len(table.header)}
    assert {row[1] for row in table.rows} == {"10.0 (10.0 to 10.0)"}
    assert {row[-2:] for row in table.rows} == {("3", "over 22")}
    save_plot(found, plan, tmp_path / "engines.png")
    assert (tmp_path / "engines.png").read_bytes().startswith(b"\x89PNG")
