"""Reads the network of a TorchScript file: from its code, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from d2serve.export.errors import ProgramError, one_line
from d2serve.export.picture.operations import INPUT, OUTPUT, Flow, Operation

_as_module: Any = torch.jit._recursive.wrap_cpp_module
_WRAPPER = "model"
Makers = frozenset[int]
"""Places of the operations whose results a value is, or is made of."""
_NOTHING: Makers = frozenset()


def from_torchscript(file: Path) -> Flow:
    """The operations of a TorchScript file; what it takes and gives has no shapes there.

    Raises:
        ProgramError: it is no such file, damaged, or needs an operator that is not here.
    """
    import torchvision  # noqa: F401  # registers its operators

    try:
        module = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise ProgramError(
            f"{file} is no TorchScript program that can be read here ({one_line(error, 160)}). "
            "Expected what torch.jit.save or `d2serve export` wrote. Where it holds weights alone, "
            f"give the config of their model, and after it MODEL.WEIGHTS {file}"
        ) from error
    walker = _Walker()
    graph = module._c._get_method("forward").graph
    given: list[Makers] = []
    for value in list(graph.inputs())[1:]:
        walker.operations.append(Operation("", 0, INPUT, (), None, name=_plain(value.debugName())))
        given.append(frozenset((len(walker.operations) - 1,)))
    answers = walker.method(module._c, "forward", "", given)
    name = f"{len(answers)} tensors" if len(answers) > 1 else "a tensor"
    for makers in answers:
        inputs = tuple(sorted(makers))
        walker.operations.append(Operation("", 0, OUTPUT, inputs, None, name=name))
    return _un_as_module(walker.operations, module)


def _plain(name: str) -> str:
    return name.partition(".")[0]


def _un_as_module(operations: list[Operation], module: Any) -> Flow:
    weights: dict[str, int] = {}
    kinds: dict[str, str] = {}
    counted: set[int] = set()
    children = [name for name, _child in module.named_children()]
    prefix = f"{_WRAPPER}." if children == [_WRAPPER] else ""
    for path, inner in module.named_modules():
        short = path.removeprefix(prefix) if path != _WRAPPER or not prefix else ""
        own = [each for each in inner.parameters(recurse=False) if each.data_ptr() not in counted]
        counted.update(each.data_ptr() for each in own)
        weights[short] = weights.get(short, 0) + sum(each.numel() for each in own)
        kinds[short] = getattr(inner, "original_name", "")
    for each in operations:
        each.path = each.path.removeprefix(prefix) if each.path != _WRAPPER else ""
    return Flow(operations, weights, kinds)


class _Walker:
    """Follows the calls of a program's modules, and the tensors through them."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._steps: dict[str, int] = {}

    def method(self, module: Any, name: str, path: str, given: Sequence[Makers]) -> list[Makers]:
        """Follow a method of a module; what is made of what it returns, one by one."""
        graph = module._get_method(name).graph
        known: dict[str, Any] = {}
        places = list(graph.inputs())
        known[places[0].debugName()] = (module, path)
        makers = {value.debugName(): each for value, each in zip(places[1:], given, strict=False)}
        self._nodes(graph, path, known, makers)
        returned = list(graph.outputs())
        if len(returned) == 1 and returned[0].node().kind() == "prim::TupleConstruct":
            returned = list(returned[0].node().inputs())
        return [makers.get(value.debugName(), _NOTHING) for value in returned]

    def _nodes(
        self, block: Any, path: str, known: dict[str, Any], makers: dict[str, Makers]
    ) -> None:
        for node in block.nodes():
            kind = node.kind()
            names = [value.debugName() for value in node.inputs()]
            given = [makers.get(name, _NOTHING) for name in names]
            every: Makers = frozenset().union(*given)
            outputs = [value.debugName() for value in node.outputs()]
            if kind == "prim::GetAttr" and names[0] in known:
                self._attribute(node, known, outputs[0])
                continue
            if kind == "prim::CallMethod" and names[0] in known:
                module, inner = known[names[0]]
                results = self.method(module, node.s("name"), inner, given[1:])
                if inner != path:
                    self._steps[path] = self._steps.get(path, 0) + 1
                joined: Makers = frozenset().union(*results)
                makers.update(dict.fromkeys(outputs, joined))
                if len(results) == len(outputs):
                    makers.update(zip(outputs, results, strict=True))
                self._unpacked(node, results, makers)
                continue
            for inner_block in node.blocks():
                for value in inner_block.inputs():
                    makers[value.debugName()] = every
                self._nodes(inner_block, path, known, makers)
                for value in inner_block.outputs():
                    every |= makers.get(value.debugName(), _NOTHING)
            if kind == "prim::TupleUnpack" and outputs and outputs[0] in makers:
                continue
            if kind.startswith(("aten::", "torchvision::")):
                every = self._operation(kind, path, every)
            makers.update(dict.fromkeys(outputs, every))

    def _attribute(self, node: Any, known: dict[str, Any], output: str) -> None:
        module, path = known[node.inputsAt(0).debugName()]
        name = node.s("name")
        value = getattr(_as_module(module), name, None)
        if isinstance(value, torch.jit.ScriptModule):
            known[output] = (value._c, f"{path}.{name}" if path else name)

    def _unpacked(self, node: Any, results: list[Makers], makers: dict[str, Makers]) -> None:
        """Where a tuple is taken apart, each part is made of its own."""
        for value in node.outputs():
            for use in value.uses():
                parts = list(use.user.outputs())
                if use.user.kind() == "prim::TupleUnpack" and len(parts) == len(results):
                    makers.update(
                        (part.debugName(), each) for part, each in zip(parts, results, strict=True)
                    )

    def _operation(self, kind: str, path: str, every: Makers) -> Makers:
        name = kind.partition("::")[2]
        step = self._steps.get(path, 0)
        self.operations.append(Operation(path, step, name, tuple(sorted(every)), None))
        return frozenset((len(self.operations) - 1,))
