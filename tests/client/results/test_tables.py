"""Predictions as pyarrow's tables; pandas and supervision are compared with these in the tests of
tests/engines/tools."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2serve.client.errors import InvalidInput, PackageUnavailable
from tests.client.handmade import (
    instance,
    panoptic_seg,
    prediction,
    proposal,
    sem_seg,
    stuff,
    thing,
)
from tests.client.handmade import rle as run_lengths

SIZE = 24, 32
LABELS = np.arange(24 * 32).reshape(SIZE) // 100
NUMBERS = st.floats(-1e4, 1e4)
SCORE = {"name": "depth", "per": "instance", "dtype": "float32", "shape": [], "kind": "tensor"}
VECTOR = {"name": "area", "per": "instance", "dtype": "int64", "shape": [2], "kind": "tensor"}


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS)))
def test_a_row_for_each_instance(boxes: list[tuple[float, ...]]) -> None:
    named = {"category_name": "circle"}
    found = [instance(n, *box, **named) for n, box in enumerate(boxes)]
    table = prediction(*SIZE, instances=found).to_arrow()
    rows = [
        {
            **dict(zip(("x0", "y0", "x1", "y1"), box)),
            "score": 0.9,
            "category_id": n,
            "category_name": "circle",
        }
        for n, box in enumerate(boxes)
    ]
    assert table.to_pylist() == rows
    assert [str(each) for each in table.schema.types] == ["double"] * 5 + ["int64", "string"]


def test_all_that_an_instance_can_have() -> None:
    mask = LABELS == 2
    points = [[1.5, 2.0, 0.25], [3.0, 4.0, 0.5]]
    own = {"depth": 1.5, "area": [3, 4]}
    sent = instance(
        1, 10, 10, 4, 2, 45, segmentation=run_lengths(mask), keypoints=points, extra=own
    )
    (row,) = (
        prediction(*SIZE, instances=[sent], extra_fields=[SCORE, VECTOR]).to_arrow().to_pylist()
    )
    assert row == {
        "cx": 10,
        "cy": 10,
        "w": 4,
        "h": 2,
        "angle": 45,
        "score": 0.9,
        "category_id": 1,
        "category_name": None,
        "segmentation": run_lengths(mask),
        "keypoints": points,
        "extra.depth": 1.5,
        "extra.area": [3, 4],
    }


def test_polygons_stay_polygons() -> None:
    outline = [[1.0, 1.0, 5.0, 1.0, 5.0, 5.0]]
    sent = instance(0, 1, 1, 5, 5, segmentation=outline)
    assert prediction(*SIZE, instances=[sent]).to_arrow()["segmentation"].to_pylist() == [outline]


def test_each_kind_has_its_table() -> None:
    ids = LABELS + 1
    segments = [thing(ids, 1), *(stuff(ids, n, n) for n in range(2, 9))]
    fields: dict[str, Any] = {
        "instances": [instance(0, 1, 2, 3, 4)],
        "proposals": [proposal(3.5, 1, 2, 3, 4)],
        "sem_seg": sem_seg(LABELS),
        "panoptic_seg": panoptic_seg(ids, *segments),
    }
    said = prediction(*SIZE, **fields)
    assert said.to_arrow("proposals").to_pylist() == [
        {"x0": 1, "y0": 2, "x1": 3, "y1": 4, "objectness_logit": 3.5}
    ]
    classes = said.to_arrow("sem_seg").to_pylist()
    assert [each["area"] for each in classes] == [100] * 7 + [68]
    table = said.to_arrow("panoptic_seg").to_pylist()
    assert [(each["id"], each["isthing"], each["score"]) for each in table] == [
        (1, True, 0.9),
        *((n, False, None) for n in range(2, 9)),
    ]
    for kind, value in fields.items():
        own: dict[str, Any] = {"instances": fields["instances"], kind: value}
        alone = prediction(*SIZE, **own)
        assert alone.to_arrow(kind) == said.to_arrow(kind)
    semantic = prediction(*SIZE, sem_seg=fields["sem_seg"])
    assert semantic.to_arrow() == said.to_arrow("sem_seg"), "the first that there is"


@pytest.mark.parametrize("kind", ["instances", "proposals"])
def test_nothing_found_has_the_same_types(kind: str) -> None:
    one: dict[str, Any] = {
        "instances": instance(0, 1, 2, 3, 4),
        "proposals": proposal(3.5, 1, 2, 3, 4),
    }
    found: dict[str, Any] = {kind: [one[kind]]}
    nothing: dict[str, Any] = {"instances": [], kind: []}
    some = prediction(*SIZE, **found).to_arrow(kind)
    none = prediction(*SIZE, **nothing).to_arrow(kind)
    assert none.schema == some.schema
    assert pa.concat_tables([none, some]).num_rows == 1


def test_what_the_model_does_not_predict_is_refused() -> None:
    said = prediction(*SIZE, instances=[])
    with pytest.raises(InvalidInput, match=r"'sem_seg', expected instances: the model m predicts"):
        said.to_arrow("sem_seg")


@pytest.mark.parametrize(
    ("method", "package"),
    [
        ("to_arrow", "pyarrow"),
        ("to_pandas", "pandas"),
        ("to_supervision", "supervision"),
        ("to_supervision_key_points", "supervision"),
    ],
)
def test_a_package_that_is_not_there(
    method: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    said = prediction(*SIZE, instances=[])
    with pytest.raises(PackageUnavailable, match=rf"{method}\(\) makes .* Install {package};"):
        getattr(said, method)()


def test_reading_a_reply_imports_none_of_them() -> None:
    script = (
        "import sys; from d2serve.client import parse_prediction; "
        "assert parse_prediction({'model': 'm', 'version': '1', 'image': {'height': 1, 'width': 1},"
        " 'instances': []}).instances == (); "
        "print(*({'pandas', 'pyarrow', 'supervision', 'torch'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert ran.stdout == "\n"
