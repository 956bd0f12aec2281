"""What a model answers beyond detectron2's own is in the archive, and equal to eager's; or refused.

The example models are trained, so that there is much to compare.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.structures import Boxes
from PIL import Image

from d2serve.client.results.prediction import parse_prediction
from d2serve.export.doctor import examine
from d2serve.export.errors import UnsupportedFamily
from d2serve.export.pipeline import export
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.samples import builtin_sample
from d2serve.export.request import ExportRequest, Progress
from d2serve.handlers.requests.request import Request
from d2serve.handlers.service import Service
from d2serve.handlers.spec.runtimes import ONNXRUNTIME, OPENVINO, RUNTIMES, TORCHSCRIPT
from tests.export import own_outputs
from tests.exports import config_of, source_of
from tests.handlers.samples import saved
from tests.ways import OF_GRAPHS, kind_of

QUIET = Progress(lambda _step, _parts: None, lambda: None)
HEADS = ("MODEL.ROI_HEADS.NAME", "ManyFieldsHeads")
KEYS = ("MODEL.META_ARCHITECTURE", "ImageScoreRCNN")
AREAS = ("MODEL.META_ARCHITECTURE", "MaskAreaRCNN")
REFUSED = ("MODEL.META_ARCHITECTURE", "RefusedRCNN")


def source(*overrides: str) -> ConfigSource:
    weights = str(config_of("mask_rcnn_fpn").with_suffix(".pth"))
    imports = (*source_of("mask_rcnn_fpn").imports, "tests.export.own_outputs")
    return ConfigSource(
        str(config_of("mask_rcnn_fpn")), (*overrides, "MODEL.WEIGHTS", weights), imports
    )


def exported(store: Path, config: ConfigSource, method: str, runtime: str) -> Path:
    request = ExportRequest(
        config,
        method,
        "own",
        format=RUNTIMES[runtime].format,
        runtime=runtime,
        output=store,
    )
    return export(request, QUIET).archive


def assert_same(got: Any, expected: Any, bound: float) -> None:
    """The same type, kind of number, shape and values, whatever is not a number included."""
    assert type(got) is type(expected)
    if isinstance(got, Boxes):
        got, expected = got.tensor, expected.tensor
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if got.is_floating_point():
        a, b = got.double(), expected.double()
        assert torch.allclose(a, b, rtol=bound, atol=bound, equal_nan=True)
    else:
        assert torch.equal(got, expected)


@pytest.mark.export
@pytest.mark.parametrize(
    ("overrides", "method", "runtime"),
    [
        (HEADS, "scripting", TORCHSCRIPT),
        (HEADS, "tracing", ONNXRUNTIME),
        (KEYS, "tracing", TORCHSCRIPT),
        (AREAS, "tracing", TORCHSCRIPT),
        pytest.param(HEADS, "tracing", TORCHSCRIPT, marks=pytest.mark.long),
        pytest.param(HEADS, "tracing", OPENVINO, marks=pytest.mark.long),
        pytest.param(KEYS, "tracing", ONNXRUNTIME, marks=pytest.mark.long),
        pytest.param(KEYS, "tracing", OPENVINO, marks=pytest.mark.long),
    ],
)
def test_a_client_gets_what_eager_detectron2_answers(
    overrides: tuple[str, str], method: str, runtime: str, tmp_path: Path
) -> None:
    config = source(*overrides)
    archive = exported(tmp_path, config, method, runtime)
    sample = builtin_sample()
    expected = Oracle(load_config(config)).predict(sample)
    service = Service.open(archive)
    image = saved(Image.fromarray(sample), "PNG")
    for form in ("json", "base64"):
        reply = service.reply(Request(image, {"extra": form}))
        got = parse_prediction(reply.body).to_detectron2()
        assert got.keys() == expected.keys()
        fields, wanted = got["instances"].get_fields(), expected["instances"].get_fields()
        assert fields.keys() == wanted.keys()
        assert len(got["instances"]) > 20
        for name in wanted.keys() - {"pred_masks"}:
            assert_same(fields[name], wanted[name], 1e-3)
        for name in expected.keys() - {"instances"}:
            assert_same(got[name], expected[name], 1e-3)
    without = json.loads(service.reply(Request(image, {"extra": "none"})).body)
    assert without.keys() & {"extra", "extra_fields"} == set()
    assert "extra" not in without["instances"][0]


WAYS = {
    "text": "the key 'caption', which is of the type str",
    "number": "the key 'count', which is of the type int",
    "tensors by name": "the key 'features', which is of the type dict",
    "list": "the field 'names' of Instances, which is of the type list",
    "bfloat16": "the field 'embedding' of Instances, a tensor of torch.bfloat16",
    "name": "the key 'image score', whose name",
    "sometimes": "the key 'image_score' for some images only",
    "detectron2's": "'sem_seg', which a Mask R-CNN FPN does not",
}


@pytest.mark.parametrize("way", WAYS)
def test_what_cannot_be_carried_is_refused_by_name_before_work(
    way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the doctor and by the export, alike."""
    monkeypatch.setattr(own_outputs.RefusedRCNN, "refused", way)
    with pytest.raises(UnsupportedFamily) as of_export:
        exported(tmp_path, source(*REFUSED), "tracing", TORCHSCRIPT)
    with pytest.raises(UnsupportedFamily) as of_doctor:
        examine(source(*REFUSED))
    assert WAYS[way] in str(of_export.value)
    assert str(of_doctor.value) == str(of_export.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("overrides", [KEYS, AREAS])
def test_what_only_a_trace_follows_is_refused_by_scripting(
    overrides: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedFamily, match=r"RCNN\.inference \(.*own_outputs\.py:\d+\)") as of:
        exported(tmp_path, source(*overrides), "scripting", TORCHSCRIPT)
    findings = {(each.method, each.runtime): each for each in examine(source(*overrides)).findings}
    assert findings["scripting", TORCHSCRIPT].refusal == str(of.value)
    assert findings["tracing", TORCHSCRIPT].refusal is None


def test_the_doctor_sees_the_fields() -> None:
    diagnosis = examine(source(*HEADS))
    assert [each.name for each in diagnosis.family.extras] == list(own_outputs.FIELDS)
    verdicts = {
        kind_of(each.method, each.runtime): each.verdict
        for each in diagnosis.findings
        if not RUNTIMES[each.runtime].needs_gpu  # what makes those is installed beside a GPU only
    }
    assert verdicts.pop("caffe2") == "cannot"  # its files have no place for them
    assert {verdicts.pop(kind) for kind in ("torch_export", *OF_GRAPHS)} == {"cannot"}
    assert set(verdicts.values()) <= {"exports", "exports with rewrites"}
