"""Finds a model's tensors among what a checkpoint holds, by what people's trainers write.

detectron2 looks below ``"model"`` and otherwise takes the whole file. Lightning and mmdetection
write ``"state_dict"``, trainers with a moving average write ``"model_ema"`` or ``"ema_state"``
beside ``"model"``. Which of several is meant only the user knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from d2serve.export.errors import WeightsError
from d2serve.export.reading.checkpoints.prefixes import Fitted, fitted

_OF_DETECTRON2 = "model"
_DEPTH = 4
_NO_WEIGHTS = ("optim", "scheduler", "lr_sched", "scaler", "grad_")


@dataclass(frozen=True)
class Layout:
    """The tensors that were taken of a file, and what else it holds."""

    tensors: dict[str, Any]
    key: str
    """Where they stand: ``"model"``, ``"callbacks.ema"``; empty for the whole file."""
    notes: tuple[str, ...] = ()
    beside: Mapping[str, Any] = field(default_factory=dict)
    """What stands beside them and is neither tensors nor an optimizer's: names, arguments."""


def taken_from(
    content: dict[str, Any], names: Collection[str], wanted: str | None, path: str
) -> Layout:
    """The tensors of a file that are a model's.

    Args:
        content: of the file.
        names: of the model's tensors.
        wanted: where the user says that they stand, or None.
        path: the file, for messages.

    Raises:
        WeightsError: none are there, or several sets fit and the user has to choose.
    """
    sets = dict(_sets(content))
    if not sets:
        raise WeightsError(
            f"{path} holds no tensors by name; it has {_list(content)}. Expected a dict of tensors "
            "by name, as detectron2 and torch.save(model.state_dict(), ...) write it."
        )
    beside = _beside(content, sets)
    if wanted is not None:
        key, taken = _chosen(sets, names, wanted, path)
        return Layout(taken.tensors, key, (), beside)
    fits = {key: fitted(tensors, names) for key, tensors in sets.items()}
    key = _first(sets, fits, names, path)
    taken = fits[key]
    if taken.rivals:
        ways = " or ".join(_way(key, prefix) for prefix in (taken.prefix, *taken.rivals))
        raise WeightsError(
            f"{path} holds several sets of weights that fit the config: tell which one with "
            f"--weights-key {ways}"
        )
    return Layout(taken.tensors, key, tuple(_notes(key, fits, path)), beside)


def _sets(content: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each dict within that holds tensors by name, by where it stands."""
    if isinstance(content, nn.Module):  # only where the user trusts the file
        yield path, dict(content.state_dict())
        return
    if not isinstance(content, Mapping) or depth > _DEPTH:
        return
    named = {key: each for key, each in content.items() if isinstance(key, str)}
    tensors = {key: each for key, each in named.items() if _is_tensor(each)}
    if any(each.ndim for each in tensors.values()):  # not a dict of losses
        yield path, tensors
    for key, each in named.items():
        if not key.lower().startswith(_NO_WEIGHTS):
            yield from _sets(each, f"{path}.{key}" if path else key, depth + 1)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (torch.Tensor, np.ndarray))


def _first(
    sets: Mapping[str, Any], fits: Mapping[str, Fitted], names: Collection[str], path: str
) -> str:
    most = max(each.found for each in fits.values())
    best = [key for key, each in fits.items() if each.found == most]
    if _OF_DETECTRON2 in sets and (fits[_OF_DETECTRON2].found or not most):
        return _OF_DETECTRON2
    if "" in best:
        return ""
    if len(best) > 1 or (most == 0 and names and len(sets) > 1):
        raise WeightsError(
            f"{path} holds several sets of weights, {_list(best)}, and as much of each fits the "
            f"config. Tell which one was trained: --weights-key {best[0]}"
        )
    return best[0]


def _chosen(
    sets: Mapping[str, dict[str, Any]], names: Collection[str], wanted: str, path: str
) -> tuple[str, Fitted]:
    """What the user's key leads to: a set, or what stands below a prefix in one."""
    if wanted in sets:
        return wanted, fitted(sets[wanted], names)
    for key, tensors in sets.items():
        if key and not wanted.startswith(f"{key}."):
            continue
        prefix = f"{wanted[len(key) + 1 :] if key else wanted}."
        below = fitted(tensors, names, prefix)
        if below.tensors:
            return wanted, below
    raise WeightsError(
        f"--weights-key is {wanted}, and {path} has no weights there. It has them at "
        f"{_list(key or 'its top, for which no key is given' for key in sets)}."
    )


def _notes(key: str, fits: Mapping[str, Fitted], path: str) -> Iterator[str]:
    taken = fits[key]
    least = max(taken.found / 2, 1)  # of a model's names, to be another set of its weights
    others = [each for each, fit in fits.items() if each != key and fit.found >= least]
    where = f"'{key}'" if key else "the top"
    if others:
        why = ", as detectron2 does" if key in (_OF_DETECTRON2, "") else ", where most of it fits"
        yield (
            f"{path} holds several sets of weights that fit the config. Those at {where} were "
            f"taken{why}; for others add --weights-key {' or '.join(others)}"
        )
    elif key not in (_OF_DETECTRON2, ""):
        yield f"The weights were taken from {where} of {path}."


def _beside(content: Mapping[str, Any], sets: Mapping[str, Any]) -> dict[str, Any]:
    of_sets = {key.partition(".")[0] for key in sets}
    return {
        key: each
        for key, each in content.items()
        if isinstance(key, str)
        and not _is_tensor(each)
        and key not in of_sets
        and not key.lower().startswith(_NO_WEIGHTS)
    }


def _way(key: str, prefix: str) -> str:
    return ".".join(filter(None, (key, prefix.rstrip("."))))


def _list(keys: Any) -> str:
    shown = [str(key) for key in keys]
    return ", ".join(shown[:6]) + (", ..." if len(shown) > 6 else "") or "nothing"
