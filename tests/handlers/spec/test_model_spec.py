"""The spec says the same after a round trip, and whatever else it says is refused with a reason."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from d2serve.handlers.digests import sha256_of
from d2serve.handlers.errors import LoadError, SpecError
from d2serve.handlers.spec.limits import RequestLimits
from d2serve.handlers.spec.model_spec import SCHEMA_VERSION, SPEC_FILE, ModelSpec, read_spec
from d2serve.handlers.spec.provenance import Provenance
from tests.handlers.samples import cases, spec_with
from tests.handlers.specs import MERGE, OUTPUTS, PROPOSALS, WITH_SEM_SEG, specs

MADE_OF = Provenance("a.yaml", "0" * 64, "a.pth", "1" * 64)
LIMITS = dataclasses.asdict(RequestLimits())


def altered(**changes: Any) -> str:
    """The text of a valid spec, but for ``changes``; a field set to ``...`` is left out."""
    raw = {**json.loads(spec_with().to_json()), **changes}
    return json.dumps({name: value for name, value in raw.items() if value is not ...})


@cases(150)
@given(specs())
def test_round_trip(spec: ModelSpec) -> None:
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_it_is_immutable_and_its_lists_are_tuples() -> None:
    spec = ModelSpec.from_json(spec_with(class_names=("a", "b")).to_json())
    assert spec.outputs == ("pred_boxes", "scores", "pred_classes")
    assert spec.class_names == ("a", "b")
    assert spec.rewrites == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.min_size_test = 1  # type: ignore[misc]


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 1, 0, None, "1", 1.5, ...])
def test_another_schema_is_refused_before_anything_else_is_looked_at(version: Any) -> None:
    with pytest.raises(SpecError, match=r"schema_version .* reads 2.*export the model again"):
        ModelSpec.from_json(altered(schema_version=version, brand_new=1, method=...))


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ModelSpec)][:-1])
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(SpecError, match=rf"missing \['{name}'\]"):
        ModelSpec.from_json(altered(**{name: ...}))


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(SpecError, match=r"unknown \['brightness'\]"):
        ModelSpec.from_json(altered(brightness=3))


def test_a_program_may_have_folders() -> None:
    files = {"model.pt": "0", "variables/variables.index": "0"}
    assert ModelSpec.from_json(altered(sha256=files)).sha256 == files


@pytest.mark.parametrize("text", ["", "{", "not json", "'a'", "\ufeff{}"])
def test_text_that_is_no_json(text: str) -> None:
    with pytest.raises(SpecError, match=r"is not JSON.*Export the model again"):
        ModelSpec.from_json(text)


@pytest.mark.parametrize(("text", "kind"), [("[]", "list"), ("3", "int"), ("null", "NoneType")])
def test_json_that_is_no_object(text: str, kind: str) -> None:
    with pytest.raises(SpecError, match=f"holds a {kind}, expected an object"):
        ModelSpec.from_json(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "onnx"}, "method is 'onnx', expected one of .*'tracing', 'scripting'"),
        ({"runtime": "theano"}, "runtime is 'theano', expected one of"),
        ({"image_format": "bgr"}, "image_format is 'bgr', expected one of"),
        ({"channels": 4}, "channels is 4, expected 3 for 'BGR'"),
        ({"image_format": "L"}, "channels is 3, expected 1 for 'L'"),
        ({"image_format": "bands", "channels": 0}, "channels is 0, expected 1 or more"),
        ({"outputs": ["scores"]}, "expected boxes, scores and classes"),
        ({"outputs": []}, "expected boxes, scores and classes"),
        ({"outputs": [*OUTPUTS, "image_size"]}, "expected boxes, scores and classes"),
        ({"outputs": [*OUTPUTS, "scores"]}, "expected boxes, scores and classes"),
        ({"outputs": ["sem_seg", "pred_masks"]}, "expected boxes, scores and classes"),
        ({"outputs": ["proposal_boxes"]}, "proposal_boxes with objectness_logits"),
        ({"outputs": [*OUTPUTS, "panoptic_seg", "segments_info"]}, "only where they are postproc"),
        ({"outputs": ["panoptic_seg"], "postprocessed": True}, "panoptic_seg with segments_info"),
        (
            {"outputs": [*OUTPUTS, "sem_seg"], "panoptic": dataclasses.asdict(MERGE)},
            "panoptic is given, expected pred_masks and sem_seg among the outputs",
        ),
        ({"panoptic": dataclasses.asdict(MERGE)}, "panoptic is given, expected pred_masks"),
        (
            {
                "outputs": WITH_SEM_SEG,
                "panoptic": {**dataclasses.asdict(MERGE), "overlap_thresh": -0.5},
            },
            r"panoptic.overlap_thresh is -0.5, expected 0 or more",
        ),
        ({"sixteen_bit": "clip"}, "sixteen_bit is 'clip', expected one of"),
        ({"box_mode": "XYWH_ABS"}, "box_mode is 'XYWH_ABS', expected one of"),
        (
            {"box_mode": "XYWHA_ABS", "outputs": [*OUTPUTS, "pred_masks"]},
            "box_mode is XYWHA_ABS and outputs are .* expected XYXY_ABS",
        ),
        ({"box_mode": "XYWHA_ABS", "outputs": PROPOSALS}, "expected XYXY_ABS"),
        ({"precision": "fp4"}, "precision is 'fp4', expected one of"),
        *(
            ({key: value}, f"{re.escape(repr(path))} is no path of a file beside model_spec.json")
            for path in (
                *("../model.pt", "/etc/passwd", "a/../../b", "a/..", "..", ".", "", "./a", "a//b"),
                *("a/", "C:/a", "a\\b", "..\\a", "\\\\host\\a"),
            )
            for key, value in (("program", path), ("sha256", {"model.pt": "0", path: "0"}))
        ),
        ({"sha256": {}}, "sha256 has no hash of the program, model.pt"),
        ({"min_size_test": -1}, "min_size_test is -1, expected 0 or more"),
        ({"max_size_test": 0}, "max_size_test is 0, expected 1 or more"),
        ({"mask_threshold": 1.5}, "mask_threshold is 1.5, expected above 0"),
        ({"limits": {**LIMITS, "max_frames": 0}}, "limits: max_frames is 0, expected a whole"),
        ({"method": "x", "image_format": "y"}, "method is 'x'.*; image_format is 'y'"),
    ],
)
def test_bad_values_are_all_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ModelSpec.from_json(altered(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"outputs": 5},
        {"outputs": None},
        {"outputs": [["pred_boxes"], ["scores"], ["pred_classes"]]},
        {"panoptic": 5},
        {"panoptic": {}},
        {"panoptic": {**dataclasses.asdict(MERGE), "more": 1}},
        {"panoptic": {**dataclasses.asdict(MERGE), "stuff_area_limit": 1.5}},
        {"panoptic": {**dataclasses.asdict(MERGE), "overlap_thresh": None}},
        {"rewrites": None},
        {"rewrites": [1]},
        {"box_mode": None},
        {"stuff_class_names": "sky"},
        {"score_thresh": "0.5"},
        {"detections_per_image": 1.5},
        {"class_names": 5},
        {"class_names": "circle"},
        {"class_names": [1, 2]},
        {"program": 5},
        {"program": None},
        {"sha256": None},
        {"sha256": {"model.pt": 5}},
        {"provenance": 5},
        {"provenance": {}},
        {"provenance": {**dataclasses.asdict(MADE_OF), "weights": None}},
        {"provenance": {**dataclasses.asdict(MADE_OF), "more": "x"}},
        {"provenance": {**dataclasses.asdict(MADE_OF), "class_names": 5}},
        {"precision": None},
        {"accuracy": None},
        {"method": []},
        {"min_size_test": "800"},
        {"max_size_test": None},
        {"mask_threshold": "0.5"},
        {"dynamic_batch": "yes"},
        {"versions": []},
        {"name": None},
        {"limits": None},
        {"limits": {"max_frames": 1}},
        {"limits": {**LIMITS, "max_frames": "1"}},
        {"limits": {**LIMITS, "max_cost": 1}},
    ],
)
def test_values_of_a_wrong_type_are_refused_by_name(changes: dict[str, Any]) -> None:
    """As the docstring of from_json promises; else they fail at the first request."""
    (name,) = changes
    with pytest.raises(SpecError, match=name):
        ModelSpec.from_json(altered(**changes))


class TestReadingAFile:
    def test_what_was_written(self, tmp_path: Path) -> None:
        spec = spec_with(class_names=("Dreieck △",))
        (tmp_path / SPEC_FILE).write_text(spec.to_json(), encoding="utf-8")
        assert read_spec(tmp_path) == spec

    def test_none_there(self, tmp_path: Path) -> None:
        with pytest.raises(LoadError, match=r"No readable model_spec.json .*d2serve export"):
            read_spec(tmp_path)

    def test_a_folder_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / SPEC_FILE).mkdir()
        with pytest.raises(SpecError, match="directory"):
            read_spec(tmp_path)

    @pytest.mark.parametrize("content", [b"\xff\xfe\0", b"PK\x03\x04\x80\x81"])
    def test_a_binary_file_in_its_place(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / SPEC_FILE).write_bytes(content)
        with pytest.raises(SpecError, match=SPEC_FILE):
            read_spec(tmp_path)


def test_sha256(tmp_path: Path) -> None:
    file = tmp_path / "abc"
    file.write_bytes(b"abc")  # the example of FIPS 180-2
    assert sha256_of(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
