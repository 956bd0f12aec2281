"""Proves, while a model runs, that what is put in the place of its own methods is their equivalent.

Set predictors bring each their own copy of MaskFormer's methods, so that their class says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from d2serve.export.errors import UnsupportedFamily, place_of
from d2serve.export.rewrites.endings import as_tensor
from d2serve.export.rewrites.own_models.mask_queries import (
    INSTANCE_INFERENCE,
    PANOPTIC_INFERENCE,
    has_method,
    instances_in_tensors,
    panoptic_in_tensors,
)


@contextmanager
def check_equivalents(model: nn.Module) -> Iterator[None]:
    """While a model runs, compare its methods for mask queries with what replaces them.

    Raises:
        UnsupportedFamily: they answer differently; the message names the method and its line.
    """
    with ExitStack() as stack:
        for name, equivalent, same in (
            (PANOPTIC_INFERENCE, panoptic_in_tensors, _same_segments),
            (INSTANCE_INFERENCE, instances_in_tensors, _same_instances),
        ):
            if has_method(model, name):
                checked = _checked(model, name, equivalent, same)
                stack.enter_context(mock.patch.object(model, name, checked))
        yield


def _checked(
    model: nn.Module,
    name: str,
    equivalent: Callable[..., Any],
    same: Callable[[Any, Any], bool],
) -> Callable[[Tensor, Tensor], Any]:
    own = getattr(model, name)

    def run(mask_cls: Tensor, mask_pred: Tensor) -> Any:
        answer = own(mask_cls, mask_pred)
        try:
            agrees = same(answer, equivalent(model, mask_cls, mask_pred))
        except (AttributeError, TypeError, ValueError):  # it is made of other things
            agrees = False
        if not agrees:
            raise UnsupportedFamily(
                f"{type(model).__qualname__}.{name} ({place_of(own)}) works in Python, of which a "
                "program holds one image's answer, and it is not MaskFormer's, for which there is "
                "an equivalent in tensors. Compute it with torch operators under another name."
            )
        return answer

    return run


def _same_segments(own: Any, ours: Any) -> bool:
    labels, segments = own
    at_pixel, table = ours
    return torch.equal(labels.to(torch.int32), at_pixel) and segments == table.as_dicts()


def _same_instances(own: Instances, ours: Instances) -> bool:
    mine, theirs = ours.get_fields(), own.get_fields()
    return mine.keys() == theirs.keys() and all(
        torch.allclose(as_tensor(mine[name]).float().cpu(), as_tensor(theirs[name]).float().cpu())
        for name in mine
    )
