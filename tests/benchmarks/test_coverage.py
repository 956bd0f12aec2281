"""docs/coverage.md and docs/formats.md: as recorded, and not stale where that is quick to see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.coverage import formats_page, page, record
from benchmarks.coverage.__main__ import example_models, make
from benchmarks.coverage.record import (
    EXPORTS,
    FAILED,
    FORMAT_KINDS,
    ONNXRUNTIME_WINOGRAD,
    OPENVINO,
    REFUSED,
    ZOO_KINDS,
    Cell,
    Coverage,
    Row,
)
from benchmarks.coverage.rows import made_apart
from benchmarks.coverage.wording import in_short, power
from benchmarks.coverage.zoo import same_models, zoo_configs
from benchmarks.shared.errors import BenchError
from d2serve.handlers.spec.runtimes import RUNTIMES, TORCHSCRIPT
from examples.shapes.generate import generate_split

_STALE = "docs/coverage.md is stale: make coverage-table"
_STALE_FORMATS = "docs/formats.md is stale: make formats-table"
_QUICK = (
    "COCO-Detection/fast_rcnn_R_50_FPN_1x.yaml",
    pytest.param("COCO-Detection/rpn_R_50_FPN_1x.yaml", marks=pytest.mark.long),
    pytest.param("Misc/semantic_R_50_FPN_1x.yaml", marks=pytest.mark.long),
)


def test_the_pages_are_what_the_record_says() -> None:
    recorded = record.read()
    for each in (page, formats_page):
        assert each.PAGE.read_text(encoding="utf-8") == each.render(recorded), _STALE


def test_there_is_a_row_for_every_configuration() -> None:
    recorded = record.read()
    assert sorted(recorded.zoo) == zoo_configs(), _STALE
    assert all(set(row.cells) == set(ZOO_KINDS) for row in recorded.zoo.values()), _STALE


def test_there_is_a_cell_for_every_example_model_in_every_format() -> None:
    recorded = record.read().examples
    assert sorted(recorded) == sorted(example_models()), _STALE_FORMATS
    assert all(set(row.cells) == set(FORMAT_KINDS) for row in recorded.values()), _STALE_FORMATS
    runtimes = {
        name for name, facts in RUNTIMES.items() if name != TORCHSCRIPT and not facts.needs_gpu
    }
    assert {*RUNTIMES[TORCHSCRIPT].methods, *runtimes} <= set(FORMAT_KINDS)


def test_no_trained_model_is_out_of_bounds_in_any_format() -> None:
    for row in record.read().examples.values():
        verdicts = {kind: cell.verdict for kind, cell in row.cells.items()}
        assert set(verdicts.values()) <= {EXPORTS, REFUSED}, (row.config, verdicts)


def test_rows_that_share_a_run_describe_the_same_model() -> None:
    shared = {name: row.same_as or name for name, row in record.read().zoo.items()}
    assert shared == same_models(zoo_configs()), _STALE


@pytest.mark.export
@pytest.mark.parametrize("config", _QUICK)
def test_a_quick_row_comes_out_as_recorded(config: str) -> None:
    recorded, made = record.read().zoo[config], made_apart(config, ZOO_KINDS)
    assert made.family == recorded.family, _STALE
    for kind in ZOO_KINDS:
        was, now = recorded.cells[kind], made.cells[kind]
        told = f"{config}, {kind}: recorded {was}, made now {now}. {_STALE}"
        assert (now.verdict, now.rewrites) == (was.verdict, was.rewrites), told
        if was.verdict == REFUSED:
            assert now.message == was.message, told


@pytest.mark.export
def test_a_model_with_masks_comes_out_in_programs_that_share_a_trace(tmp_path: Path) -> None:
    generate_split(tmp_path, "heldout", 2)
    images = sorted((tmp_path / "images").glob("*.jpg"))
    kinds = (ONNXRUNTIME_WINOGRAD, OPENVINO)
    row = made_apart(str(example_models()["mask_rcnn_fpn"]), kinds, images)
    assert [row.cells[kind].verdict for kind in kinds] == [EXPORTS, EXPORTS], row
    assert min(cell.detections for cell in row.cells.values()) > 5


def test_configurations_of_another_schedule_describe_the_same_model() -> None:
    same = same_models(zoo_configs())
    mask = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_{}.yaml"
    assert same[mask.format("3x")] == same[mask.format("1x_giou")] == mask.format("1x")
    assert same[mask.format("3x").replace("R_50", "R_101")] != mask.format("1x")
    # LVIS has other classes, and Cityscapes too.
    assert same["Cityscapes/mask_rcnn_R_50_FPN.yaml"] == "Cityscapes/mask_rcnn_R_50_FPN.yaml"


def test_a_row_that_is_not_there_is_refused() -> None:
    with pytest.raises(BenchError, match="There is no row nothing"):
        make(["nothing"], False, lambda _step, _parts: None, lambda: None)


def test_nothing_that_differs_or_fails_is_hidden() -> None:
    fine = Cell(EXPORTS, rewrites=("some_rewrite",), images=3, detections=90, box_px=2.4e-4)
    differs = replace(fine, verdict="differs", message="boxes by 3 px", within=87)
    cells = {
        "tracing": fine,
        "scripting": Cell(REFUSED, "It cannot be: a reason. Do this."),
        "onnxruntime": differs,
        "openvino": Cell(FAILED, "RuntimeError: out of something"),
    }
    coverage = Coverage({"torch": "1"}, {"some_rewrite": "because"})
    coverage.zoo["a.yaml"] = Row("a.yaml", "Mask R-CNN FPN", cells, ("2026-01-02",), ("a CPU",))
    coverage.examples["b"] = Row(
        "b",
        "RetinaNet",
        dict.fromkeys(FORMAT_KINDS, cells["scripting"]),
        ("2026-01-03",),
        ("a CPU",),
    )
    formats = formats_page.render(coverage)
    assert "| RetinaNet | b |  | no: It cannot be | no: It cannot be |" in formats
    assert "- b: It cannot be: a reason. Do this." in formats
    told = page.render(coverage)
    assert (
        "| a.yaml | Mask R-CNN FPN | 90 | 2e-4 px (r1) | no: It cannot be "
        "| **differs**: 87 of 90 within bounds; 2e-4 px (r1) | **failed**: RuntimeError |" in told
    )
    assert "- a.yaml (scripting): It cannot be: a reason. Do this." in told
    assert "- a.yaml (onnxruntime): boxes by 3 px" in told
    assert "- a.yaml (openvino): RuntimeError: out of something" in told
    assert "- **r1** `some_rewrite`: because" in told


def test_figures_and_reasons_are_short() -> None:
    assert [power(each) for each in (0, 2.4e-4, 0.013, 0.34, 12.3)] == [
        *("0", "2e-4", "1e-2", "0.34", "12")
    ]
    refused = "detectron2 cannot build the model of this config (No module named 'mmdet'). If"
    assert in_short(refused) == "No module named 'mmdet'"
    assert in_short("The model cannot be scripted: in Head.forward: no types") == "in Head.forward"
