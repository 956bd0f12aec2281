"""examples/cpp takes the specs and archives that the Python library takes, and no others."""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2serve.handlers.errors import SpecError
from d2serve.handlers.spec.model_spec import SPEC_FILE, ModelSpec
from tests.cpp.models import archive_of, files_of, folder_of
from tests.cpp.probing import Probe
from tests.handlers.samples import cases, spec_with
from tests.handlers.specs import specs

SPEC = spec_with(outputs=("pred_boxes", "scores", "pred_classes", "pred_masks"))
_WRONG: tuple[Any, ...] = (None, "x", "", -1, 0, 1.5, True, [], ["a"], [1], {}, {"a": "b"}, 1e300)


def taken_by_python(text: str) -> bool:
    try:
        ModelSpec.from_json(text)
    except SpecError:
        return False
    return True


def altered() -> list[str]:
    """A spec without each of its fields, and with values in it that need not be right."""
    raw = json.loads(SPEC.to_json())
    raw["extras"] = []
    texts = [json.dumps({**raw, "unknown": 1})]
    for name in raw:
        texts.append(json.dumps({each: value for each, value in raw.items() if each != name}))
        texts += [json.dumps({**raw, name: value}) for value in _WRONG]
    for name in raw["limits"]:
        for value in (*_WRONG, 2**31):
            texts.append(json.dumps({**raw, "limits": {**raw["limits"], name: value}}))
    merge = {"overlap_thresh": 0.5, "stuff_area_limit": 4, "instances_confidence_thresh": 0.5}
    both = {**raw, "outputs": [*raw["outputs"], "sem_seg"]}
    texts += [
        json.dumps({**both, "panoptic": {**merge, name: each}}) for name in merge for each in _WRONG
    ]
    extra = {"name": "depth", "per": "instance", "kind": "Tensor", "dtype": "float32", "shape": [3]}
    more = {**raw, "outputs": [*raw["outputs"], "instances.extra.depth"]}
    texts += [json.dumps({**more, "extras": [{**extra, n: v}]}) for n in extra for v in _WRONG]
    texts += [json.dumps({**raw, "schema_version": version}) for version in (1, 2, 3, 4, 5, 6, "4")]
    boxes = {**raw, "outputs": [name for name in raw["outputs"] if name != "pred_masks"]}
    numbers = (None, 1, 80, 0, -1, 10**7, 2.0, True)
    texts += [json.dumps({**each, "detail_classes": n}) for each in (raw, boxes) for n in numbers]
    for outputs in (
        ["sem_seg"],
        ["scores", "pred_classes"],
        ["pred_masks"],
        ["proposal_boxes", "objectness_logits"],
        ["proposal_boxes"],
        ["pred_boxes", "scores", "pred_classes", "scores"],
        ["pred_boxes", "scores", "pred_classes", "panoptic_seg", "segments_info"],
    ):
        for mode in ("XYXY_ABS", "XYWHA_ABS"):
            for final in (False, True):
                change = {"outputs": outputs, "box_mode": mode, "postprocessed": final}
                texts.append(json.dumps({**raw, **change}))
    names = ("a/b", "a//b", "a/", "./a", "a/.", "a/..", "../a", "/a", "c:/a", "a/c:", "a\\b", ".")
    texts += [json.dumps({**raw, "program": name, "sha256": {name: "0" * 64}}) for name in names]
    texts += ["", "[]", "7", "{", "nul", '{"a": 1,}', "[" * 900]
    return texts


def test_a_spec_is_refused_where_python_refuses_it(probe: Probe) -> None:
    texts = altered()
    taken = [taken_by_python(text) for text in texts]
    wrong = []
    for text, refusal, expected in zip(texts, probe.refusals(texts), taken):
        assert refusal is None or refusal.endswith("."), refusal
        # Which runtimes there are, only the engines know.
        of_runtime = '"runtime": "x"' in text or '"runtime": ""' in text
        if (refusal is None) is not expected and not of_runtime:
            wrong.append((refusal, text[:2000]))
    assert not wrong
    assert sum(taken) > 20


def test_python_writes_what_is_no_number(probe: Probe) -> None:
    text = replace(
        SPEC, accuracy={"fp32": {'AP-"NaN': float("nan"), "AR": float("-inf")}}
    ).to_json()
    assert "NaN," in text
    assert "-Infinity" in text
    assert probe.refusals([text]) == [None]


def test_json_of_any_depth_is_read_or_refused(probe: Probe) -> None:
    assert probe.refusals(["[" * 1_000_000, '{"a":' * 100_000])[0] is not None
    nested = '{"schema_version":' + "[" * 1_000_000 + "]" * 1_000_000 + "}"
    assert "nested too deeply" in str(probe.refusals([nested])[0])


@cases(6)
@given(some=st.lists(specs(), min_size=4, max_size=4))
def test_specs_of_every_family_are_taken(some: list[ModelSpec], probe: Probe) -> None:
    assert probe.refusals([each.to_json() for each in some]) == [None] * len(some)


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_an_archive_and_its_folder_are_opened(packing: int, probe: Probe, tmp_path: Path) -> None:
    assert probe.open(folder_of(SPEC, tmp_path / "folder")) == "squares 2.0"
    archive = archive_of(files_of(SPEC), tmp_path / "model.mar", packing)
    assert probe.open(archive) == "squares 2.0"
    archive.write_bytes(b"#!/bin/sh\n" + archive.read_bytes())
    assert "is no archive" in probe.open(archive)


def test_an_archive_without_a_manifest_is_called_as_its_spec(probe: Probe, tmp_path: Path) -> None:
    files = files_of(SPEC)
    del files["MAR-INF/MANIFEST.json"]
    assert probe.open(archive_of(files, tmp_path / "model.mar")) == f"{SPEC.name} 1.0"


def test_an_archive_in_the_format_of_large_ones(probe: Probe, tmp_path: Path) -> None:
    archive = tmp_path / "model.mar"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in files_of(SPEC).items():
            with opened.open(name, "w", force_zip64=True) as file:
                file.write(data)
        opened.comment = b"a comment"
    assert probe.open(archive) == "squares 2.0"


def _link(opened: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    opened.writestr(entry, "/etc/passwd")


def _bomb(opened: zipfile.ZipFile) -> None:
    opened.writestr("zeros", bytes(80 << 20))


HARM: dict[str, tuple[Callable[[zipfile.ZipFile], None], str]] = {
    "outside": (lambda opened: opened.writestr("../x", "x"), "entries outside itself"),
    "absolute": (lambda opened: opened.writestr("/x", "x"), "entries outside itself"),
    "drive": (lambda opened: opened.writestr("c:\\x", "x"), "entries outside itself"),
    "link": (_link, "symbolic links"),
    "bomb": (_bomb, "a hundred times its own size"),
}


@pytest.mark.parametrize("harm", HARM)
def test_an_archive_that_was_made_to_harm(harm: str, probe: Probe, tmp_path: Path) -> None:
    add, message = HARM[harm]
    archive = archive_of(files_of(SPEC), tmp_path / "model.mar")
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as opened:
        add(opened)
    told = probe.open(archive)
    assert message in told
    assert "somebody made it to harm" in told


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice(probe: Probe, tmp_path: Path) -> None:
    archive = archive_of(files_of(SPEC), tmp_path / "model.mar")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(SPEC.program, "another")
    assert "several entries of one name" in probe.open(archive)


def test_an_archive_that_is_cut_off_or_changed_anywhere(probe: Probe, tmp_path: Path) -> None:
    archive = archive_of(files_of(SPEC), tmp_path / "model.mar", zipfile.ZIP_STORED)
    data = archive.read_bytes()
    for part in range(1, 10):
        archive.write_bytes(data[: len(data) * part // 10])
        assert "truncated or damaged" in probe.open(archive)
    archive.write_bytes(data.replace(b"at all, no program", b"at all, NO program", 1))
    assert "checksum" in probe.open(archive)


MISSING: dict[str, tuple[Callable[[dict[str, bytes]], Any], str]] = {
    "spec": (lambda files: files.pop(SPEC_FILE), f"has no {SPEC_FILE}"),
    "program": (lambda files: files.pop(SPEC.program), f"has no {SPEC.program}, which its"),
    "hash": (lambda files: files.update({SPEC.program: b"another"}), "the spec says"),
    "schema": (
        lambda files: files.update({SPEC_FILE: b'{"schema_version": 99}'}),
        "made by a newer d2serve",
    ),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_an_archive_lacks_is_named(what: str, probe: Probe, tmp_path: Path) -> None:
    change, message = MISSING[what]
    files = files_of(SPEC)
    change(files)
    told = probe.open(archive_of(files, tmp_path / "model.mar"))
    assert message in told
    assert told.endswith(".")


def test_a_folder_without_its_program(probe: Probe, tmp_path: Path) -> None:
    folder = folder_of(SPEC, tmp_path / "folder")
    (folder / SPEC.program).unlink()
    assert "is missing from the archive" in probe.open(folder)
    assert "There is no" in probe.open(tmp_path / "nothing")
    assert f"No readable {SPEC_FILE}" in probe.open(tmp_path)


def test_nothing_is_left_in_the_temporary_folder(
    probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    files = files_of(SPEC)
    files[SPEC.program] = b"another"
    probe.open(archive_of(files, tmp_path / "model.mar"))
    assert [each.name for each in tmp_path.iterdir()] == ["model.mar"]
