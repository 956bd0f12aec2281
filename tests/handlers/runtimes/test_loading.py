"""A program that cannot be served fails while it is loaded, and says what to do."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from d2serve.handlers.digests import sha256_of
from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.loading import load_runtime
from d2serve.handlers.spec.model_spec import ModelSpec, read_spec
from d2serve.handlers.spec.runtimes import RUNTIMES
from tests.handlers.samples import spec_with

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture
def archive(scripted_archive: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scripted_archive, tmp_path / "archive"))


def spec_for(content: bytes, archive: Path) -> ModelSpec:
    program = archive / "model.pt"
    program.write_bytes(content)
    return spec_with(sha256={"model.pt": sha256_of(program)}, versions={"torch": "2.0.3"})


def test_it_loads_and_runs(archive: Path) -> None:
    loaded = load_runtime(archive, read_spec(archive), "cpu")
    assert not loaded.on_gpu
    (outputs,) = loaded.run([np.full((3, 10, 20), 51, np.float32)])
    assert list(outputs) == ["pred_boxes", "scores", "pred_classes", "pred_masks"]
    assert outputs["pred_boxes"].tolist() == [[0, 0, 10, 5]]
    assert outputs["scores"].tolist() == pytest.approx([0.2])


def test_threads_are_set(archive: Path) -> None:
    before = torch.get_num_threads()
    loaded = load_runtime(archive, read_spec(archive), "cpu")
    try:
        loaded.set_threads(before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_no_program(archive: Path) -> None:
    (archive / "model.pt").unlink()
    with pytest.raises(LoadError, match=r"model.pt is missing .*export the model again"):
        load_runtime(archive, read_spec(archive), "cpu")


def test_a_folder_in_the_programs_place(archive: Path) -> None:
    (archive / "model.pt").unlink()
    (archive / "model.pt").mkdir()
    with pytest.raises(LoadError, match=r"model.pt is missing"):
        load_runtime(archive, read_spec(archive), "cpu")


def test_a_program_that_was_changed(archive: Path) -> None:
    spec = read_spec(archive)
    with (archive / "model.pt").open("ab") as file:
        file.write(b"\0")
    found = sha256_of(archive / "model.pt")
    with pytest.raises(LoadError, match=f"sha256 {found[:12]}.*{spec.sha256['model.pt'][:12]}"):
        load_runtime(archive, spec, "cpu")


@pytest.mark.parametrize("content", [b"", b"not a program", b"PK\x03\x04 nor this" + bytes(99)])
def test_a_file_that_is_no_program(archive: Path, content: bytes) -> None:
    with pytest.raises(LoadError, match=r"cannot load model.pt, .* torch 2\.0\.3 .*export again"):
        load_runtime(archive, spec_for(content, archive), "cpu")


def test_a_program_of_another_torch_major(archive: Path) -> None:
    content = (archive / "model.pt").read_bytes()
    spec = replace(spec_for(content, archive), versions={"torch": "1.13.1"})
    with pytest.raises(LoadError, match=r"exported with torch 1\.13\.1, this server has torch"):
        load_runtime(archive, spec, "cpu")


def test_half_a_program(archive: Path) -> None:
    whole = (archive / "model.pt").read_bytes()
    with pytest.raises(LoadError, match=r"cannot load model.pt"):
        load_runtime(archive, spec_for(whole[: len(whole) // 2], archive), "cpu")


@without_cuda
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_no_gpu(archive: Path, device: str) -> None:
    with pytest.raises(LoadError, match=f"run on {device}.*sees no CUDA device.*without GPUs"):
        load_runtime(archive, read_spec(archive), device)


def test_no_such_device(archive: Path) -> None:
    with pytest.raises(LoadError, match="abacus"):
        load_runtime(archive, read_spec(archive), "abacus")


def test_a_runtime_that_is_not_installed(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = replace(RUNTIMES["torchscript"], module="a_package_that_is_not_there")
    monkeypatch.setitem(RUNTIMES, "torchscript", facts)
    with pytest.raises(LoadError, match=r"a_package_that_is_not_there.*pip install 'd2serve"):
        load_runtime(archive, read_spec(archive), "cpu")
