"""Reads a trace into a plain list of calls, each with its arguments by name.

TorchScript's graph spells out every constant, list, tuple and weight as a node. Here they are
values, and what is left are the calls of operators that the outputs need, in their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from d2serve.export.errors import ProgramError
from d2serve.export.failures import in_short, logged, nothing_printed
from d2serve.export.programs.doubting.doubts import Doubt, watching
from d2serve.export.programs.torchscript_errors import where_in_user_code

_ROOT = "__module."
_MODEL = "model"


@dataclass(frozen=True)
class Value:
    """A tensor that a call makes, or that the network is given."""

    name: str
    rank: int | None = None
    """How many dimensions it has, where the trace knows."""
    channels: int | None = None
    """Its second dimension, likewise."""


@dataclass(frozen=True)
class Weight:
    """A tensor that belongs to a module, or that the trace made a constant of."""

    path: str
    """Where it is in the model; empty for a constant."""
    tensor: Tensor = field(compare=False, repr=False)


@dataclass
class Call:
    """One operator with what it takes."""

    kind: str
    """As torch names it, e.g. ``"aten::relu"``."""
    scope: str
    """Path of the module that calls it."""
    arguments: dict[str, Any]
    """Numbers, texts, None, Value, Weight, or lists of these, by the names of its schema."""
    outputs: list[Value]

    @property
    def in_place(self) -> bool:
        """Whether it changes what it takes, which others may have under another name."""
        return self.kind.endswith("_")


@dataclass(frozen=True)
class Graph:
    """What a trace recorded."""

    inputs: list[Value]
    calls: list[Call]
    outputs: list[Value]
    doubts: tuple[Doubt, ...]
    """Places where the trace made constants of what depends on the image."""

    def taken(self) -> Iterator[Value]:
        """The values that calls take and that are answered, each as often as it is."""
        for call in self.calls:
            yield from _values(list(call.arguments.values()))
        yield from self.outputs


def traced_graph(form: nn.Module, inputs: tuple[Tensor, ...]) -> Graph:
    """Trace a module, and read what was recorded.

    Args:
        form: takes the inputs and answers a tuple of tensors.
        inputs: of a small image: the answer does not matter.

    Raises:
        ProgramError: naming the line that cannot be traced.
    """
    with (
        nothing_printed() as printed,
        watching(type(form).forward.__code__) as doubts,
        torch.no_grad(),
    ):
        try:
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                form, inputs, check_trace=False
            )
        except Exception as error:
            raise ProgramError(
                f"The model cannot be traced for Caffe2: {where_in_user_code(error)}"
                f"{type(error).__name__}: {in_short(error)}. Compute with torch operators on "
                "tensors there, or use --format torchscript. All that torch says: "
                f"{logged(error, printed())}"
            ) from error
    return _Reading(form).graph(traced.inlined_graph, tuple(doubts))


class _Reading:
    def __init__(self, form: nn.Module) -> None:
        self._form = form
        self._known: dict[str, Any] = {}
        self._calls: list[Call] = []

    def graph(self, found: Any, doubts: tuple[Doubt, ...]) -> Graph:
        itself, *given = found.inputs()
        self._known[itself.debugName()] = _Part("")
        inputs = [self._made(each) for each in given]
        for node in found.nodes():
            self._read(node)
        (answer,) = (self._known[each.debugName()] for each in found.outputs())
        outputs = list(answer) if isinstance(answer, list) else [answer]
        return Graph(inputs, _needed(self._calls, outputs), outputs, doubts)

    def _read(self, node: Any) -> None:
        kind, taken = node.kind(), [self._known[each.debugName()] for each in node.inputs()]
        outputs = list(node.outputs())
        if kind == "prim::GetAttr":
            self._know(outputs[0], self._attribute(taken[0].path, node.s("name")))
        elif kind == "prim::Constant":
            value = outputs[0].toIValue()
            self._know(outputs[0], Weight("", value) if isinstance(value, Tensor) else value)
        elif kind in ("prim::ListConstruct", "prim::TupleConstruct"):
            self._know(outputs[0], taken)
        elif kind in ("prim::ListUnpack", "prim::TupleUnpack"):
            self._unpack(taken[0], outputs)
        else:
            made = [self._made(each) for each in outputs]
            self._calls.append(Call(kind, _scope(node), _arguments(node, taken), made))

    def _attribute(self, path: str, name: str) -> Any:
        path = f"{path}.{name}" if path else name
        thing: Any = self._form
        for part in path.split("."):
            thing = getattr(thing, part)
        return Weight(_in_model(path), thing) if isinstance(thing, Tensor) else _Part(path)

    def _unpack(self, packed: Any, outputs: list[Any]) -> None:
        if isinstance(packed, Value):  # a list that an operator answers: its outputs themselves
            (call,) = (call for call in self._calls if call.outputs == [packed])
            call.outputs[:] = [self._made(each) for each in outputs]
            return
        for each, value in zip(outputs, packed, strict=True):
            self._know(each, value)

    def _made(self, value: Any) -> Value:
        kind = value.type()
        sizes = (kind.sizes() or []) if kind.kind() == "TensorType" else []
        made = Value(value.debugName(), len(sizes) or None, sizes[1] if len(sizes) > 1 else None)
        self._know(value, made)
        return made

    def _know(self, value: Any, thing: Any) -> None:
        self._known[value.debugName()] = thing


@dataclass(frozen=True)
class _Part:
    """A module of the traced one."""

    path: str


def _scope(node: Any) -> str:
    innermost = node.scopeName().rpartition("/")[2]
    return _in_model(innermost.removeprefix(_ROOT))


def _in_model(path: str) -> str:
    return "" if path == _MODEL else path.removeprefix(f"{_MODEL}.")


def _arguments(node: Any, taken: list[Any]) -> dict[str, Any]:
    schema = torch._C.parse_schema(node.schema()) if node.schema() != "(no schema)" else None
    if schema is None:
        return {str(index): each for index, each in enumerate(taken)}
    names = (argument.name for argument in schema.arguments)
    return dict(zip(names, taken, strict=True))


def _needed(calls: list[Call], outputs: list[Value]) -> list[Call]:
    wanted = set(outputs)
    kept = []
    for call in reversed(calls):
        if wanted.intersection(call.outputs) or call.in_place:
            kept.append(call)
            wanted.update(_values(list(call.arguments.values())))
    return kept[::-1]


def _values(arguments: list[Any]) -> Iterator[Value]:
    for each in arguments:
        if isinstance(each, list):
            yield from _values(each)
        elif isinstance(each, Value):
            yield each
