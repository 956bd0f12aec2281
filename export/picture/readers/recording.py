"""Reads a network from an eager model while it answers an image.

torch tells of each operator that runs, with its tensors; hooks tell in which module. So what
happens between modules, proposals and NMS for example, is seen as well as what modules do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from d2serve.export.picture.operations import INPUT, OUTPUT, Flow, Operation, Shape, Side
from d2serve.export.picture.readers.multiply_adds import of_call
from d2serve.export.picture.readers.running_modules import Modules

Given = Mapping[str, Any]
"""The dict of an image, as a model gets it."""

# A number of a tensor as Python's own, or a question of its size: nothing that computes.
_NO_WORK = ("aten::_local_scalar_dense", "aten::sym_size", "aten::detach")


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down each operator that runs, and whose results it takes."""

    def __init__(self, modules: Modules) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self._modules = modules
        self._made: Any = WeakIdKeyDictionary()
        self._written: dict[int, int] = {}  # by storage, for writes through views

    def introduce(self, name: str, tensor: Tensor) -> None:
        """A tensor that is given to the model."""
        self.operations.append(Operation("", 0, INPUT, (), _shape_of(tensor), name=name))
        self._made[tensor] = len(self.operations) - 1

    def conclude(self, name: str, tensors: list[Tensor]) -> None:
        """What the model answers under a name."""
        makers = self._makers(tensors)
        if makers:
            shape = _shape_of(tensors[0])
            self.operations.append(Operation("", 0, OUTPUT, makers, shape, name=name))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        name = func._schema.name
        if name in _NO_WORK:
            return result
        given = list(_tensors((args, kwargs)))
        first = next(_tensors(result), None)
        count = of_call(name, args, result)
        path, step = self._modules.place
        self.operations.append(
            Operation(
                path,
                step,
                name.partition("::")[2],
                self._makers(given),
                None if first is None else _shape_of(first),
                count,
                first.shape[0] if count and first is not None and first.ndim else None,
            )
        )
        place = len(self.operations) - 1
        for tensor in _tensors(result):
            self._made[tensor] = place
        for argument, declared in zip(args, func._schema.arguments):
            if declared.alias_info is not None and declared.alias_info.is_write:
                for tensor in _tensors(argument):
                    self._written[tensor.untyped_storage()._cdata] = place
        return result

    def _makers(self, tensors: list[Tensor]) -> tuple[int, ...]:
        found = set()
        for tensor in tensors:
            made = self._made.get(tensor)
            if made is not None:
                written = self._written.get(tensor.untyped_storage()._cdata, -1)
                found.update({made, max(made, written)})
        return tuple(sorted(found))


def recorded(model: nn.Module, given: Given, smaller: Given | None = None) -> Flow:
    """The operations of a model's answer to an image.

    Args:
        model: eager, in evaluation mode.
        given: the dict of an image, as DefaultPredictor gives it to the model.
        smaller: of an image of another size; sides that differ are marked as varying.
    """
    operations = _operations(model, given)
    if smaller is not None:
        _mark_varying(operations, _operations(model, smaller))
    counted: set[int] = set()
    weights: dict[str, int] = {}
    for path, module in model.named_modules():
        own = [each for each in module.parameters(recurse=False) if id(each) not in counted]
        counted.update(map(id, own))
        weights[path] = sum(each.numel() for each in own)
    kinds = {path: type(module).__name__ for path, module in model.named_modules()}
    return Flow(operations, weights, kinds)


def timed(model: nn.Module, given: Given) -> dict[tuple[str, int], float]:
    """Seconds by (path, step) of a model's answer; it should have answered once before."""
    spent: dict[tuple[str, int], float] = {}
    modules = Modules()
    last = time.perf_counter()

    def note() -> None:
        nonlocal last
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        spent[modules.place] = spent.get(modules.place, 0.0) + now - last
        last = now

    modules.when_changed = note
    with torch.no_grad(), modules.watching(model):
        last = time.perf_counter()
        model([given])
        note()
    return spent


def _operations(model: nn.Module, given: Given) -> list[Operation]:
    modules = Modules()
    recorder = _Recorder(modules)
    for name, value in given.items():
        if isinstance(value, Tensor):
            recorder.introduce(name, value)
    with torch.no_grad(), _attention_in_steps(), modules.watching(model), recorder:
        answer = model([given])
    for name, value in _named(answer):
        recorder.conclude(name, list(_tensors(value)))
    return recorder.operations


@contextmanager
def _attention_in_steps() -> Iterator[None]:
    """Keep torch from running an attention layer as one operator, which hides what it does."""
    mha: Any = getattr(torch.backends, "mha", None)  # torch 2.3
    before = mha is not None and mha.get_fastpath_enabled()
    if before:
        mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        if before:
            mha.set_fastpath_enabled(True)


def _mark_varying(operations: list[Operation], others: list[Operation]) -> None:
    seen: dict[tuple[str, str, int], Shape | None] = {}
    for key, other in _keyed(others):
        seen[key] = other.shape
    for key, operation in _keyed(operations):
        shape, other_shape = operation.shape, seen.get(key)
        if shape is None:
            continue
        if other_shape is None or len(shape) != len(other_shape):
            other_shape = shape
        operation.shape = tuple(
            Side(side.size, side.size != other.size or side.size == 0)
            for side, other in zip(shape, other_shape)
        )


def _keyed(operations: list[Operation]) -> Iterator[tuple[tuple[str, str, int], Operation]]:
    counts: dict[tuple[str, str], int] = {}
    for each in operations:
        place = (each.path, each.name or each.kind)
        counts[place] = counts.get(place, 0) + 1
        yield (*place, counts[place]), each


def _named(answer: Any) -> Iterator[tuple[str, Any]]:
    """What a model answers to one image, by name."""
    one = answer[0] if isinstance(answer, (list, tuple)) and answer else answer
    if not isinstance(one, Mapping):
        yield "answer", one
        return
    for name, value in one.items():
        fields = getattr(value, "get_fields", None)
        if fields is None:
            yield str(name), value
        else:
            yield from fields().items()


def _tensors(value: Any, depth: int = 0) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors(each, depth)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each, depth)
    elif depth < 3 and isinstance(getattr(value, "__dict__", None), dict):
        # Boxes, Instances and whatever an author has: what they hold.
        for each in vars(value).values():
            yield from _tensors(each, depth + 1)


def _shape_of(tensor: Tensor) -> Shape:
    return tuple(Side(int(size)) for size in tensor.shape)
