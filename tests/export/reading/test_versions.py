"""A checkpoint's versions of modules arrive, by which a module knows how its tensors are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from d2serve.export.reading.checkpoints.checkpointer import StrictCheckpointer


class Renaming(nn.Module):
    """Was named ``old_weight`` in its first version, as Mask2Former's heads were."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
        if metadata.get("version", 1) < 2:  # so its tensors have the old name
            state[f"{prefix}weight"] = state.pop(f"{prefix}old_weight")
        super()._load_from_state_dict(state, prefix, metadata, *rest)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = Renaming()


def trained() -> nn.Module:
    model = Model()
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    return model


@pytest.mark.parametrize(
    "saved",
    [
        lambda: {"model": trained().state_dict()},
        lambda: trained().state_dict(),
        lambda: {"model": nn.DataParallel(trained()).state_dict()},
    ],
    ids=["trainer", "bare", "wrapped"],
)
def test_a_module_that_renames_old_tensors_leaves_new_ones(
    saved: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "model.pth"
    torch.save(saved(), file)
    model = Model()
    StrictCheckpointer(model, trusted=False).load(str(file))
    assert model.head.weight.tolist() == [1.0, 2.0, 3.0]
