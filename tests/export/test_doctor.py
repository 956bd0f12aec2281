"""The doctor answers before any work, names module, file and line, and is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2serve.export.doctor import Diagnosis, Finding, examine
from d2serve.export.errors import UnsupportedFamily
from d2serve.export.reading.config import ConfigSource
from tests.conftest import config_of
from tests.ways import ON_A_CPU, skipped

CUSTOM = ("tests.export.custom_modules",)


def _of(diagnosis: Diagnosis, method: str, runtime: str = "torchscript") -> Finding:
    (found,) = (f for f in diagnosis.findings if (f.method, f.runtime) == (method, runtime))
    return found


def _custom(backbone: str) -> Diagnosis:
    overrides = [
        *("MODEL.BACKBONE.NAME", f"build_{backbone}", "MODEL.RPN.IN_FEATURES", "['res4']"),
        *("MODEL.ROI_HEADS.IN_FEATURES", "['res4']", "MODEL.ANCHOR_GENERATOR.SIZES", "[[32, 64]]"),
    ]
    zoo = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
    return examine(ConfigSource(zoo, overrides, CUSTOM))


def test_upstreams_own_family_exports_as_it_is() -> None:
    diagnosis = examine(ConfigSource(str(config_of("mask_rcnn_fpn"))))
    assert diagnosis.family.name == "Mask R-CNN FPN"
    installed = [each for each in diagnosis.findings if not skipped(each.runtime)]
    assert {finding.verdict for finding in installed} == {"exports"}
    assert {(f.method, f.runtime) for f in diagnosis.findings} == {
        ("tracing", "torchscript"),
        ("scripting", "torchscript"),
        ("tracing", "onnxruntime"),
        ("tracing", "openvino"),
        ("tracing", "tensorrt"),
        ("tracing", "tensorflow"),
        ("tracing", "caffe2"),
        ("tracing", "torch_export"),
        ("torch_export", "onnxruntime"),
        ("torch_export", "openvino"),
    }


@pytest.mark.parametrize(
    ("config", "rewrites"),
    [
        ("Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml", ["cascade_roi_heads", "roi_head_switches"]),
        (
            "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py",
            ["panoptic_fpn", "sem_seg_fpn_head", "conv_activation", "config_lists"],
        ),
        ("COCO-Detection/rpn_R_50_FPN_1x.yaml", ["proposal_network"]),
    ],
)
def test_rewrites_are_named_with_upstreams_file(config: str, rewrites: list[str]) -> None:
    finding = _of(examine(ConfigSource(config)), "scripting")
    assert finding.verdict == "exports with rewrites"
    assert [rewrite.name for rewrite in finding.rewrites] == rewrites
    assert all(".py: " in rewrite.reason for rewrite in finding.rewrites)


def test_weights_are_not_read() -> None:
    overrides = ("MODEL.WEIGHTS", "not-even-there.pth")
    assert examine(ConfigSource(str(config_of("retinanet")), overrides)).findings


def test_own_modules_that_can_be_exported_are_no_obstacle() -> None:
    findings = _custom("PlainBackbone").findings
    assert {each.verdict for each in findings if each.runtime in ON_A_CPU} == {"exports"}


def test_an_own_module_that_cannot_be_scripted_is_named_with_its_line() -> None:
    diagnosis = _custom("UnscriptableBackbone")
    refusal = _of(diagnosis, "scripting").refusal
    assert refusal is not None
    assert "backbone (UnscriptableBackbone)" in refusal
    assert f"custom_modules.py:{_line('the refused line')}" in refusal
    assert _of(diagnosis, "tracing").verdict == "exports"


@pytest.mark.parametrize(
    ("backbone", "marked"),
    [
        ("UntraceableBackbone", "becomes a constant"),
        ("RaisingBackbone", "the raising line"),
    ],
)
def test_an_own_module_that_cannot_be_traced_is_named_with_its_line(
    backbone: str, marked: str
) -> None:
    diagnosis = _custom(backbone)
    for runtime in ("torchscript", "onnxruntime", "openvino"):
        refusal = _of(diagnosis, "tracing", runtime).refusal
        assert refusal is not None
        assert f"custom_modules.py:{_line(marked)}" in refusal


def test_an_override_of_what_is_replaced_is_named_with_its_line() -> None:
    overrides = ("MODEL.ROI_HEADS.NAME", "OverridingCascadeHeads")
    zoo = "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml"
    refusal = _of(examine(ConfigSource(zoo, overrides, CUSTOM)), "scripting").refusal
    assert refusal is not None
    assert "OverridingCascadeHeads._run_stage (roi_heads, " in refusal
    assert f"custom_modules.py:{_line('def _run_stage')}" in refusal


def test_a_refused_family_is_refused_at_once() -> None:
    with pytest.raises(UnsupportedFamily, match="precomputed proposals"):
        examine(ConfigSource("COCO-Detection/fast_rcnn_R_50_FPN_1x.yaml"))


def test_what_else_would_stop_an_export_is_noted() -> None:
    overrides = ("MODEL.WEIGHTS", "", "DATASETS.TRAIN", "()", "DATASETS.TEST", "()")
    notes = examine(ConfigSource(str(config_of("retinanet")), overrides)).notes
    assert any("MODEL.WEIGHTS" in note for note in notes)
    assert any("--class-names" in note for note in notes)


def _line(marked: str) -> int:
    text = Path(__file__).with_name("custom_modules.py").read_text().splitlines()
    (line,) = (number for number, row in enumerate(text, 1) if marked in row)
    return line
