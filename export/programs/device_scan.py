"""Keeps devices out of programs: a trace records the one that it ran on, and fails on others.

detectron2's code creates a few tensors on the CPU and moves them like an input at once, and it
indexes with lists, which a trace keeps on the CPU, where an index may lie whatever it indexes. Both
are harmless. Every other device in a trace becomes that of the image; in a scripted program, where
somebody wrote it down, it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from d2serve.export.errors import ProgramError


def check_no_device(module: torch.jit.ScriptModule) -> None:
    """Make sure that a program can be loaded on another device than it was made on.

    Raises:
        ProgramError: naming the operators and source lines with a device baked in.
    """
    baked = list(dict.fromkeys(_baked_devices(module)))
    if baked:
        raise ProgramError(
            f"The program has a device baked in: {'; '.join(baked[:4])}. Create tensors there like "
            "an input (x.new_zeros(...), torch.zeros_like(x)), move them with x.to(y.device), or "
            "export on the CPU: MODEL.DEVICE cpu."
        )


def follow_the_image(module: torch.jit.ScriptModule) -> None:
    """Let what a traced program makes on the device of the trace be made on that of its image.

    A user's ``torch.arange(n, device=x.device)`` means just that; a trace knows a device only.
    """
    if not list(_baked_devices(module)):
        return
    graph = module.graph
    # What a submodule does is not told of the image.
    torch._C._jit_pass_inline(graph)
    _self, image = list(graph.inputs())[:2]
    device = graph.create("prim::device", [image], 1)
    device.output().setType(torch._C.DeviceObjType.get())
    graph.prependNode(device)
    for node in _nodes(graph):
        if _is_device(node):
            node.output().replaceAllUsesWith(device.output())


def _baked_devices(module: torch.jit.ScriptModule) -> Iterator[str]:
    for node in _nodes(module.inlined_graph):
        if not _is_device(node):
            continue
        device = node.s("value") if node.hasAttribute("value") else "a device"
        for use in node.output().uses():
            if not (device == "cpu" and _is_harmless(use.user)):
                yield f"{device} in {use.user.kind()} {_source(use.user)}"


def _is_device(node: torch._C.Node) -> bool:
    return node.kind() == "prim::Constant" and node.output().type().kind() == "DeviceObjType"


def _nodes(block: torch._C.Graph | torch._C.Block) -> Iterator[torch._C.Node]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _is_harmless(node: torch._C.Node) -> bool:
    uses = [use.user for output in node.outputs() for use in output.uses()]
    return bool(uses) and all(_moves_to_a_tensors_device(use) or _only_indexes(use) for use in uses)


def _only_indexes(node: torch._C.Node) -> bool:
    if node.kind() != "prim::ListConstruct":
        return False
    return all(use.user.kind() == "aten::index" for use in node.output().uses())


def _moves_to_a_tensors_device(node: torch._C.Node) -> bool:
    if node.kind() != "aten::to":
        return False
    targets = [value for value in node.inputs() if value.type().kind() == "DeviceObjType"]
    return bool(targets) and all(target.node().kind() != "prim::Constant" for target in targets)


def _source(node: torch._C.Node) -> str:
    lines = str(node.sourceRange()).strip().splitlines()
    return f"({lines[0].strip()})" if lines else ""
