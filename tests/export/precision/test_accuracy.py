"""A lower precision is written with its price, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openvino
import pytest

from d2serve.export.archive.opening import opened
from d2serve.export.errors import EvaluationError, PrecisionError, SampleError
from d2serve.export.pipeline import export
from d2serve.export.precision import accuracy, lowering
from d2serve.export.request import ExportRequest, Progress
from d2serve.export.result import ExportResult
from d2serve.handlers.runtimes.cpu_features import slow_precision
from d2serve.handlers.spec.model_spec import read_spec
from tests.conftest import HeldOut, source_of

pytestmark = pytest.mark.export

QUIET = Progress(lambda _step, _parts: None, lambda: None)
CAPABILITIES = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")

# AP points that may be lost. Rounding moves the AP of 200 images by a few tenths from CPU to CPU;
# what was measured of every example model is in benchmarks/results/precision.md.
ALLOWED = 0.5


def needs(precision: str) -> Any:
    lacking = slow_precision(precision, CAPABILITIES)
    return pytest.param(precision, marks=pytest.mark.skipif(bool(lacking), reason=str(lacking)))


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of the training split."""
    from examples.shapes.generate import generate_split

    folder = tmp_path_factory.mktemp("calibration")
    generate_split(folder, "train", 120)
    return folder / "images"


def lower(precision: str, store: Path, held_out: HeldOut, **options: Any) -> ExportResult:
    request = ExportRequest(
        source_of("mask_rcnn_fpn"),
        "tracing",
        "shapes",
        output=store,
        format="onnx",
        runtime="openvino",
        precision=precision,
        **{
            "dataset": (held_out.annotations, held_out.annotations.parent / "images"),
            **options,
        },
    )
    return export(request, QUIET)


@pytest.mark.parametrize("precision", [needs("bf16"), needs("int8")])
def test_the_archive_tells_both_aps(
    precision: str, held_out: HeldOut, calibration: Path, tmp_path: Path
) -> None:
    options = {"calibration_images": calibration} if precision == "int8" else {}
    result = lower(precision, tmp_path, held_out, max_ap_drop=ALLOWED, **options)
    with opened(result.archive) as contents:
        spec = read_spec(contents)
        assert (contents / "torch.py").is_file()
        weights = (contents / "model.bin").stat().st_size
    assert spec == result.spec
    assert (spec.runtime, spec.precision) == ("openvino", precision)
    assert set(spec.sha256) == {"model.xml", "model.bin"}
    assert spec.accuracy["images"] == 200
    for task in ("bbox", "segm"):
        before, after = spec.accuracy["fp32"][task]["AP"], spec.accuracy[precision][task]["AP"]
        assert before > 60
        assert before - after <= ALLOWED
        assert after != before  # it is another program, not fp32 under another name
    assert spec.verification["differences"]
    if precision == "int8":
        assert weights < 4_000_000  # 2.2 million parameters, nearly all of a byte each


def test_too_high_a_price_writes_nothing(
    held_out: HeldOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacking := slow_precision("bf16", CAPABILITIES):
        pytest.skip(lacking)
    # No example model loses that much, so the evaluator is told what to answer: fp32, then bf16.
    scores = iter(
        [
            {"bbox": {"AP": 60.0}, "segm": {"AP": 60.0}},
            {"bbox": {"AP": 60.0}, "segm": {"AP": 58.75}},
        ]
    )
    monkeypatch.setattr(accuracy, "evaluate_one", lambda *_: next(scores))
    older = tmp_path / "shapes.mar"
    older.write_bytes(b"an older archive")
    with pytest.raises(PrecisionError, match=r"bf16 costs 1\.25 AP points, 0\.5 are allowed.*Noth"):
        lower("bf16", tmp_path, held_out)
    assert older.read_bytes() == b"an older archive"
    assert [file.name for file in tmp_path.iterdir()] == ["shapes.mar"]


def test_too_few_calibration_images_are_said_before_the_long_part(
    held_out: HeldOut, calibration: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for file in sorted(calibration.iterdir())[:99]:
        (few / file.name).symlink_to(file)
    with pytest.raises(SampleError, match=r"got 99 from .*expected 100 or more"):
        lower("int8", tmp_path / "store", held_out, calibration_images=few)


def test_other_annotations_are_said_before_anything_is_measured(
    held_out: HeldOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "check_cpu", lambda *_: None)
    content = json.loads(held_out.annotations.read_text())
    images = held_out.annotations.parent / "images"

    def refused(message: str, **changed: Any) -> None:
        file = tmp_path / "changed.json"
        file.write_text(json.dumps({**content, **changed}))
        with pytest.raises(EvaluationError, match=message):
            lower("bf16", tmp_path / "store", held_out, dataset=(file, images))

    others = [{"id": n, "name": f"other {n}"} for n in (1, 2, 3)]
    refused(r"No category of changed\.json \(other 1", categories=others)
    few = [each for each in content["images"] if each["id"] <= 19]
    refused(r"has 19 images with .*: too few to judge bf16 by", images=few)
    boxes = [
        {key: value for key, value in each.items() if key not in ("segmentation", "keypoints")}
        for each in content["annotations"]
    ]
    refused(r"has nothing to judge segm by, which bf16 may ruin", annotations=boxes)
    assert not (tmp_path / "store").exists()


def test_an_ap_near_zero_judges_no_precision(
    held_out: HeldOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "check_cpu", lambda *_: None)
    scores = {"bbox": {"AP": 0.02}, "segm": {"AP": 0.01}}
    monkeypatch.setattr(accuracy, "evaluate_one", lambda *_: scores)
    with pytest.raises(EvaluationError, match=r"AP 0\.0 \(bbox\), AP 0\.0 \(segm\) on annotations"):
        lower("bf16", tmp_path, held_out)
    assert not list(tmp_path.iterdir())


def test_a_data_set_that_is_not_there_is_named(held_out: HeldOut, tmp_path: Path) -> None:
    missing = tmp_path / "none.json"
    with pytest.raises(EvaluationError, match=r"none\.json cannot be read"):
        lower("bf16", tmp_path / "store", held_out, dataset=(missing, tmp_path))


def test_a_cpu_without_the_instructions_is_said(
    held_out: HeldOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lowering, "slow_precision", lambda *_: "this CPU has no bf16")
    with pytest.raises(PrecisionError, match=r"this CPU has no bf16.*use --precision fp32"):
        lower("bf16", tmp_path, held_out)
    assert not list(tmp_path.iterdir())
