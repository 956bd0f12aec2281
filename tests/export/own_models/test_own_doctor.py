"""The doctor says of a model of a user's own class what tests/parity/test_own_models.py shows."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from d2serve.export.doctor import examine
from d2serve.handlers.spec.runtimes import RUNTIMES
from tests.conftest import KINDS, source_of
from tests.ways import OF_GRAPHS, kind_of, skipped

_NOT_SCRIPTED = {"scripting": "ends in postprocessing of its own"}
_OWN = {
    "caffe2": "cannot be exported for Caffe2: its files hold detectron2's",
    **dict.fromkeys(("torch_export", *OF_GRAPHS), "is not exported with torch.export: only"),
}


@pytest.mark.parametrize(
    ("model", "cannot"),
    [
        ("peaks", _OWN),
        ("peaks_of_its_own_ending", {**_OWN, **_NOT_SCRIPTED}),
        ("mask_queries", {**_OWN, **_NOT_SCRIPTED}),
    ],
)
def test_the_doctor_agrees_with_the_export(model: str, cannot: dict[str, str]) -> None:
    diagnosis = examine(source_of(model))
    said = {
        kind_of(each.method, each.runtime): each.refusal
        for each in diagnosis.findings
        if find_spec(RUNTIMES[each.runtime].package) is not None
    }
    assert said.keys() == {kind for kind in (*KINDS, *OF_GRAPHS) if not skipped(kind)}
    assert {kind for kind, refusal in said.items() if refusal is not None} == cannot.keys()
    for kind, reason in cannot.items():
        assert reason in str(said[kind])
