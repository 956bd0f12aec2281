"""Tiny TorchScript programs of both calling conventions, whose right answers are known by heart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2serve.handlers.digests import sha256_of
from d2serve.handlers.spec.model_spec import SPEC_FILE
from tests.handlers.samples import spec_with

OUTPUTS = ("pred_boxes", "scores", "pred_classes", "pred_masks")

# An image of this value throughout is one that the scripted program fails on.
UNLUCKY = 13


def _instances(image: Tensor, called_with: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One instance: the image's upper left quarter, its mean as score, the batch size as class."""
    height, width = image.shape[1], image.shape[2]
    box = torch.tensor([[0.0, 0.0, width / 2, height / 2]])
    score = (image.mean() / 255).reshape(1)
    return box, score, torch.full((1,), called_with), torch.ones(1, 1, 28, 28)


class Scripted(torch.nn.Module):
    """Takes several images, as the programs that `scripting` makes."""

    def forward(self, inputs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        answers: list[dict[str, Tensor]] = []
        for each in inputs:
            image = each["image"]
            if bool((image == 13.0).all()):
                raise ValueError("an unlucky image")
            boxes, scores, classes, masks = _instances(image, len(inputs))
            answers.append(
                {
                    "pred_masks": masks,
                    "pred_boxes": boxes,
                    "scores": scores,
                    "pred_classes": classes,
                }
            )
        return answers


class Traced(torch.nn.Module):
    """Takes one image, as the programs that `tracing` makes."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        one = image.new_ones(1)
        box = torch.stack([0 * one, 0 * one, image.shape[2] * one / 2, image.shape[1] * one / 2], 1)
        score = (image.mean() / 255).reshape(1)
        return box, score, one.to(torch.int64), image.new_ones(1, 1, 28, 28)


class Semantic(torch.nn.Module):
    """Two labels: 0 where the image is dark, 1 where it is bright; padded by a pixel."""

    def forward(self, inputs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        answers: list[dict[str, Tensor]] = []
        for each in inputs:
            grey = torch.nn.functional.pad(each["image"].mean(0), [0, 1, 0, 1])
            answers.append({"sem_seg": torch.stack([127 - grey, grey - 127])})
        return answers


def write_semantic_archive(folder: Path, **changes: Any) -> Path:
    """As ``write_archive``, of a program that answers sem_seg alone."""
    program = folder / "model.pt"
    torch.jit.save(torch.jit.script(Semantic()), str(program))
    spec = spec_with(outputs=("sem_seg",), sha256={program.name: sha256_of(program)}, **changes)
    (folder / SPEC_FILE).write_text(spec.to_json())
    return folder


def write_archive(folder: Path, method: str = "scripting", **changes: Any) -> Path:
    """An archive as TorchServe extracts it: a program and the spec that goes with it."""
    program = folder / "model.pt"
    if method == "scripting":
        torch.jit.save(torch.jit.script(Scripted()), str(program))
    else:
        traced = torch.jit.trace(Traced(), torch.rand(3, 20, 30))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(program))
    spec = {
        "method": method,
        "outputs": OUTPUTS,
        "dynamic_batch": method == "scripting",
        "sha256": {program.name: sha256_of(program)},
        **changes,
    }
    (folder / SPEC_FILE).write_text(spec_with(**spec).to_json())
    return folder
