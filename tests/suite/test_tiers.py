"""Each make target runs what it says, and the gate leaves out no family and no way."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from tests import tiers
from tests.conftest import ROOT
from tests.ways import FAMILIES, IN_THE_GATE, KINDS, MODELS, tiered

SERVER = [sys.executable, "-c", "from ts.model_server import start; start()"]


def test_a_test_that_starts_a_server_without_saying_so_fails(
    request: pytest.FixtureRequest,
) -> None:
    """This very test has no marker, so it may not start one."""
    with pytest.raises(pytest.fail.Exception, match=r"put @pytest\.mark\.server before it"):
        subprocess.run(SERVER, check=False)
    tiers.refuse_unmarked(request.node, [sys.executable, "-c", "print()"])
    request.node.add_marker("server")
    tiers.refuse_unmarked(request.node, SERVER)


@pytest.mark.parametrize("run", tiers.STARTED_BY)
def test_what_is_watched_for_is_what_the_rooms_run(run: str) -> None:
    rooms = (ROOT / "server", ROOT / "export")
    said = [file for room in rooms for file in room.rglob("*.py") if run in file.read_text()]
    assert said, f"nothing runs {run} any more: the watch of tests/tiers.py looks for nothing"


def test_fixtures_mark_the_tests_that_use_them(request: pytest.FixtureRequest) -> None:
    """Those of this run, as far as they are part of it."""
    for item in request.session.items:
        if isinstance(item, pytest.Function):
            if "exported" in item.fixturenames:
                assert item.get_closest_marker("export"), item.nodeid
            assert {
                each for each in tiers.needs(item) if not item.get_closest_marker(each)
            } == set()


def test_the_gate_asks_every_model_and_every_way_of_several() -> None:
    assert set(IN_THE_GATE) == {*MODELS, *FAMILIES}
    for model, kinds in IN_THE_GATE.items():
        assert kinds, model
        assert set(kinds) <= set(FAMILIES.get(model, KINDS)), model
    asked = Counter(kind for kinds in IN_THE_GATE.values() for kind in kinds)
    assert set(asked) == set(KINDS)
    assert min(asked.values()) >= 2


def test_what_the_gate_leaves_out_is_long() -> None:
    inside, outside = tiered([("retinanet", "openvino", 1), ("retinanet", "tracing", 2)])
    assert inside.values == ("retinanet", "openvino", 1)
    assert inside.marks == ()
    assert [mark.name for mark in outside.marks] == ["long"]
