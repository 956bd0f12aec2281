"""What the doctor says of a model is what an export does, by the coverage table and by archives."""

from __future__ import annotations

import json
from functools import lru_cache

import pytest

from benchmarks.coverage.zoo import source_of as zoo_source_of
from d2serve.export.archive.opening import opened
from d2serve.export.doctor import Finding, examine
from d2serve.export.errors import ExportError
from d2serve.export.reading.config import ConfigSource
from d2serve.export.rewrites.deform_conv.stand_ins import is_needed
from d2serve.export.rewrites.deform_conv.torchvision_form import DEFORM_CONV, MODULATED_DEFORM_CONV
from d2serve.handlers.spec.model_spec import read_spec
from d2serve.handlers.spec.runtimes import TRACING
from tests.conftest import FAMILIES, Exporter
from tests.exports import ROOT, source_of
from tests.ways import KINDS_OF, METHODS, asked, kind_of, tiered

TABLE = json.loads((ROOT / "benchmarks" / "results" / "coverage.json").read_text())["zoo"]
# The table was made without detectron2's compiled operators, whose place torchvision's take.
_OF_COMPILED = set() if is_needed() else {DEFORM_CONV.name, MODULATED_DEFORM_CONV.name}
# One of each: refused altogether, with rewrites, in one way only, a LazyConfig, by a stand-in.
IN_THE_GATE = (
    "COCO-Detection/fast_rcnn_R_50_FPN_1x.yaml",
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
    "COCO-Detection/fcos_R_50_FPN_1x.py",
    "Misc/mask_rcnn_R_50_FPN_3x_dconv_c3-c5.yaml",
)
EXPORTED = [
    *((model, kind) for model, kinds in KINDS_OF.items() for kind in kinds),
    *((model, kind) for model, kinds in FAMILIES.items() for kind in kinds),
]


def findings_of(source: ConfigSource) -> dict[str, Finding] | None:
    """By the kind of archive; None where the model is refused altogether."""
    try:
        findings = examine(source).findings
    except ExportError:
        return None
    return {kind_of(each.method, each.runtime): each for each in findings}


@lru_cache(maxsize=1)
def findings_of_example(model: str) -> dict[str, Finding]:
    found = findings_of(source_of(model))
    assert found is not None
    return found


def zoo_cases() -> list[object]:
    return [
        pytest.param(name, marks=() if name in IN_THE_GATE else (pytest.mark.long,))
        for name in TABLE
    ]


def test_the_gate_asks_what_the_table_has() -> None:
    assert set(IN_THE_GATE) <= set(TABLE)


@pytest.mark.parametrize("name", zoo_cases())
def test_the_doctor_says_what_the_table_says(name: str) -> None:
    findings = findings_of(zoo_source_of(name))
    for kind, cell in TABLE[name]["cells"].items():
        says = "cannot" if findings is None else findings[kind].verdict
        exports = cell["verdict"] not in ("refused", "failed")
        assert (says != "cannot") == exports, (kind, says, cell["verdict"], cell["message"])
        if exports and findings is not None:
            assert findings[kind].doubts == ()
            rewrites = {rewrite.name for rewrite in findings[kind].rewrites} - _OF_COMPILED
            assert rewrites == set(cell["rewrites"])


@pytest.mark.parametrize(("model", "kind"), tiered(EXPORTED))
def test_the_doctor_says_what_an_export_does(
    model: str, kind: str, exported: Exporter, request: pytest.FixtureRequest
) -> None:
    exported.ahead(*((each[0], each[1]) for each in asked(request, "model", "kind")))
    finding = findings_of_example(model)[kind]
    with opened(exported(model, kind)) as contents:
        spec = read_spec(contents)
    assert finding.refusal is None
    assert finding.method == (kind if kind in METHODS else TRACING)
    assert {rewrite.name for rewrite in finding.rewrites} == set(spec.rewrites)
    assert [str(doubt) for doubt in finding.doubts] == spec.verification["traced_constants"]
