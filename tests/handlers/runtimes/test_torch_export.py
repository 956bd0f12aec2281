"""A program of torch.export is served as any other: by its spec, on the threads asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.export import Dim

from d2serve.handlers.digests import sha256_of
from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes import torch_export as torch_export_runtime
from d2serve.handlers.runtimes.loading import load_runtime
from tests.handlers.samples import spec_with

SPEC = spec_with(
    method="tracing",
    runtime="torch_export",
    program="model.pt2",
    outputs=("pred_boxes", "scores"),
    dynamic_batch=False,
    sha256={"model.pt2": ""},
)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Bright(torch.nn.Module):
    """Rows and columns of the bright pixels as boxes, and how bright they are."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        places = torch.nonzero(image[0] > 1.0)
        return torch.cat([places, places + 1], dim=1).float(), image[0][places[:, 0], places[:, 1]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "model.pt2"
    sides = ({1: Dim.DYNAMIC, 2: Dim.DYNAMIC},)
    exported = torch.export.export(Bright(), (torch.rand(3, 8, 9),), dynamic_shapes=sides)
    torch.export.save(exported, file)
    return file


def test_what_the_spec_names_is_answered_for_images_of_any_size(program: Path) -> None:
    described = replace(SPEC, sha256={"model.pt2": sha256_of(program)})
    runtime = load_runtime(program.parent, described, "cpu")
    assert not runtime.on_gpu
    dark, bright = np.zeros((3, 20, 30), np.float32), np.zeros((3, 7, 40), np.float32)
    bright[0, 2, 5] = 9.0
    nothing, one = runtime.run([dark, bright])
    assert nothing["pred_boxes"].shape == (0, 4)
    assert one["pred_boxes"].tolist() == [[2.0, 5.0, 3.0, 6.0]]
    assert one["scores"].tolist() == [9.0]


def test_it_keeps_its_threads(program: Path) -> None:
    before = torch.get_num_threads()
    runtime = torch_export_runtime.load(program, SPEC, "cpu", before + 1)
    torch.set_num_threads(before + 3)
    runtime.run([np.zeros((3, 20, 30), np.float32)])
    assert torch.get_num_threads() == before + 1
    runtime.set_threads(before + 2)
    assert torch.get_num_threads() == before + 2


def test_it_loads_where_torch_reads_expressions_otherwise(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes loading fast is torch's own, and another torch need not have it."""
    unlike: Any = object()
    monkeypatch.setattr(torch_export_runtime, "serialize", unlike)
    runtime = torch_export_runtime.load(program, SPEC, "cpu", 1)
    assert runtime.run([np.full((3, 4, 4), 2, np.float32)])[0]["scores"].shape == (16,)


def test_a_gpu_is_refused(program: Path) -> None:
    with pytest.raises(LoadError, match=r"run on cuda:0, .*number_of_gpu=0"):
        torch_export_runtime.load(program, SPEC, "cuda:0", 1)


def test_a_damaged_program_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(b"PK")
    with pytest.raises(LoadError, match=r"cannot load model\.pt2, which was exported with torch 2"):
        torch_export_runtime.load(tmp_path / "model.pt2", SPEC, "cpu", 1)
