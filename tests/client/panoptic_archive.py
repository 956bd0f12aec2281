"""A program for which every option makes a difference, as a .mar with the real handler."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from d2serve.handlers.digests import sha256_of
from d2serve.handlers.spec.extras import IMAGE, INSTANCE, Extra
from d2serve.handlers.spec.model_spec import SPEC_FILE, PanopticMerge
from tests.handlers.samples import spec_with
from tests.robustness.conftest import ONE_WORKER, pack

OWN_THRESHOLD = 0.25
NAMES = ("circle", "square, or so", "[2]")
LIMITS = {"max_image_pixels": 10_000, "max_reply_bytes": 5_000}
UNLUCKY = 13


EXTRAS = (
    Extra("embedding", INSTANCE, "Tensor", "float32", (2,)),
    Extra("sure", INSTANCE, "Tensor", "bool", ()),
    Extra("rank", INSTANCE, "Tensor", "int64", ()),
    Extra("brightness", IMAGE, "Tensor", "float64", ()),
    Extra("levels", IMAGE, "Tensor", "uint8", (2,)),
    Extra("half", IMAGE, "Tensor", "float16", (1,)),
)


class TwoOnTheGround(torch.nn.Module):
    """A circle of 0.9 on the left and a square of 0.5 on the right; sky above, ground below."""

    def forward(self, inputs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        answers: list[dict[str, Tensor]] = []
        for each in inputs:
            image = each["image"]
            if bool((image == 13.0).all()):
                raise ValueError("an unlucky image")
            half, bottom = image.shape[2] / 2, image.shape[1] / 2
            boxes = [[0.0, 0.0, half, bottom], [half, 0.0, 2 * half, bottom]]
            grey = image.mean(0)
            answers.append(
                {
                    "pred_boxes": torch.tensor(boxes),
                    "scores": torch.tensor([0.9, 0.5]),
                    "pred_classes": torch.tensor([0, 1]),
                    "pred_masks": torch.ones(2, 1, 28, 28),
                    "sem_seg": torch.stack([127 - grey, grey - 127]),
                    "instances.extra.embedding": torch.tensor([[0.1, 2.0], [0.3, 4.0]]),
                    "instances.extra.sure": torch.tensor([True, False]),
                    "instances.extra.rank": torch.tensor([7, 300]),
                    "extra.brightness": grey.mean().double(),
                    "extra.levels": torch.tensor([0, 255]).to(torch.uint8),
                    "extra.half": torch.tensor([0.5]).half(),
                }
            )
        return answers


def write_panoptic_archive(folder: Path, store: Path, name: str) -> Path:
    """The .mar, in ``store``."""
    program = folder / "model.pt"
    torch.jit.save(torch.jit.script(TwoOnTheGround()), str(program))
    spec = spec_with(
        outputs=(
            *("pred_boxes", "scores", "pred_classes", "pred_masks", "sem_seg"),
            *(each.output for each in EXTRAS),
        ),
        extras=EXTRAS,
        class_names=NAMES,
        panoptic=PanopticMerge(0.5, 1, 0.3),
        score_thresh=OWN_THRESHOLD,
        sha256={program.name: sha256_of(program)},
    )
    (folder / SPEC_FILE).write_text(spec.to_json())
    return pack(folder, store, name, {**ONE_WORKER, "batchSize": 1, "limits": LIMITS})
