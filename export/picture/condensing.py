"""Makes boxes and edges of a model's operations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from d2serve.export.picture.blocks import block_of_part, terminal_block
from d2serve.export.picture.naming import AFTER, BEFORE, BETWEEN
from d2serve.export.picture.network import Block, Edge, Network
from d2serve.export.picture.operations import INPUT, OUTPUT, Flow, Operation, Shape
from d2serve.export.picture.partition import Part, Tree, is_kept, partition

# Operations that only look at a tensor otherwise, in the terms of torch, ONNX and Caffe2.
_PASSING_NAMES = """
    view reshape _unsafe_view _reshape_alias permute transpose t select slice unsqueeze squeeze
    expand clone _to_copy cat split split_with_sizes unbind stack alias copy_ lift_fresh
    to contiguous flatten size
    Constant Shape Gather Unsqueeze Squeeze Concat Slice Cast Reshape Transpose Identity Flatten
    Expand ConstantOfShape Split Alias Copy
"""
_PASSING = frozenset(_PASSING_NAMES.split())
# What deserves a box even where nothing is multiplied.
_CHOOSING = frozenset(
    ("topk", "nms", "TopK", "NonMaxSuppression", "GenerateProposals", "BoxWithNMSLimit")
)


@dataclass(eq=False)
class _Gathered:
    """What may become a box: a part, of the root's own work one phase."""

    part: Part
    phase: str
    operations: list[int] = field(default_factory=list)
    absorbed: list[Part] = field(default_factory=list)
    """Parts of little work, which are shown with the one that they follow."""


def network_of(flow: Flow, title: str, about: str) -> Network:
    """A model's network, of at most about thirty boxes.

    Args:
        flow: its operations.
        title: what the picture is called.
        about: said below the title.
    """
    tree = Tree.of(flow.weights, (each.path for each in flow.operations if not _is_end(each)))
    candidates = _gathered(flow, partition(tree))
    kept, makers = _kept(candidates, flow, tree)
    kept.sort(key=lambda each: _when(each, flow))
    number_of = {each: number for number, each in enumerate(kept, 1)}
    blocks = _alone_without_frame(
        terminal_block(INPUT, flow),
        *(_block(each, flow) for each in kept),
        terminal_block(OUTPUT, flow),
    )
    block_of: list[int | None] = []
    for operation, maker in zip(flow.operations, makers):
        if _is_end(operation):
            block_of.append(0 if operation.kind == INPUT else len(kept) + 1)
        else:
            block_of.append(None if maker is None else number_of[maker])
    return Network(title, about, blocks, tuple(_edges(flow, block_of)))


def _kept(
    candidates: list[_Gathered], flow: Flow, tree: Tree
) -> tuple[list[_Gathered], list[_Gathered | None]]:
    """What becomes a box, and for each operation which one it belongs to, None for ends and for
    what only passes a tensor on."""
    passing = {each for each in candidates if _only_passes(each, flow)}
    small = {each for each in candidates if _is_small(each, flow, tree)}
    makers = _makers(candidates, flow, passing, small)
    taken = {part for each in candidates for part in each.absorbed}
    alone = {each for each in small if each.part not in taken}
    if alone:  # they follow nothing
        makers = _makers(candidates, flow, passing, small - alone)
    made = set(makers)
    shown = [each for each in candidates if each in made]
    taken = {part for each in shown for part in (each.part, *each.absorbed)}
    idle = [each for each in candidates if each.part not in taken and each not in passing]
    for each in candidates:
        each.operations = []
    for place, maker in enumerate(makers):
        if maker is not None:
            maker.operations.append(place)
    return shown + idle, makers


def _makers(
    candidates: list[_Gathered], flow: Flow, passing: set[_Gathered], small: set[_Gathered]
) -> list[_Gathered | None]:
    """For each operation what it is shown in: of little work, in what it goes on with."""
    of_operation = {place: each for each in candidates for place in each.operations}
    for each in candidates:
        each.absorbed = []
    absorbed: set[Part] = set()
    makers: list[_Gathered | None] = []
    before: list[_Gathered | None] = []  # whose work an operation goes on with
    for place, operation in enumerate(flow.operations):
        own = of_operation.get(place)
        given = [before[each] for each in operation.inputs if before[each] is not None]
        last = given[-1] if given else None
        if own is None or own in passing or (own in small and operation.kind in _PASSING):
            makers.append(None)
            before.append(last)
            continue
        maker = last if own in small else own
        if maker is not None and maker is not own and own.part not in absorbed:
            absorbed.add(own.part)
            maker.absorbed.append(own.part)
        makers.append(maker)
        before.append(maker)
    return makers


def _is_small(gathered: _Gathered, flow: Flow, tree: Tree) -> bool:
    """Whether it is shown with what it follows: a norm, an activation, an addition of features."""
    part = gathered.part
    if not gathered.operations or gathered.phase in (BEFORE, AFTER) or is_kept(part):
        return False
    if any(tree.children.get(member) for member in part.members):
        return False
    return not any(
        flow.operations[place].multiply_adds != 0 or flow.operations[place].kind in _CHOOSING
        for place in gathered.operations
    )


def _alone_without_frame(*blocks: Block) -> tuple[Block, ...]:
    counts = Counter(block.frame for block in blocks)
    return tuple(
        replace(block, frame="") if counts[block.frame] == 1 else block for block in blocks
    )


def _when(gathered: _Gathered, flow: Flow) -> int:
    """When a part runs, what does not run being last."""
    if not gathered.operations:
        return len(flow.operations)
    return gathered.operations[len(gathered.operations) // 2 if flow.is_scattered else 0]


def _gathered(flow: Flow, parts: list[Part]) -> list[_Gathered]:
    owner = {path: part for part in parts for path in (*part.own, *part.members)}
    last = max((each.step for each in flow.operations if not each.path), default=0)
    found: dict[tuple[int, str], _Gathered] = {}
    for place, each in enumerate(flow.operations):
        if _is_end(each):
            continue
        part = _owner_of(each.path, owner)
        phase = ""
        if "" in part.own:
            phase = BEFORE if each.step == 0 else AFTER if each.step == last else BETWEEN
        gathered = found.setdefault((id(part), phase), _Gathered(part, phase))
        gathered.operations.append(place)
    seen = {key for key, _phase in found}
    for path, count in flow.weights.items():
        part = _owner_of(path, owner)
        if count and id(part) not in seen:
            found.setdefault((id(part), ""), _Gathered(part, ""))
    return list(found.values())


def _owner_of(path: str, owner: dict[str, Part]) -> Part:
    while path not in owner:
        path = path.rpartition(".")[0]
    return owner[path]


def _is_end(operation: Operation) -> bool:
    return operation.kind in (INPUT, OUTPUT)


def _only_passes(gathered: _Gathered, flow: Flow) -> bool:
    """Whether it is no box, but a part of the ways through it."""
    if gathered.part.members or any(flow.weights.get(path) for path in gathered.part.own):
        return False
    return all(flow.operations[place].kind in _PASSING for place in gathered.operations)


def _edges(flow: Flow, block_of: list[int | None]) -> list[Edge]:
    makers: list[frozenset[int]] = []
    found: dict[tuple[int, int], dict[Shape, None]] = {}
    for operation, block in zip(flow.operations, block_of):
        if block is None:
            makers.append(frozenset().union(*(makers[place] for place in operation.inputs)))
            continue
        makers.append(frozenset((block,)))
        for place in operation.inputs:
            given = flow.operations[place]
            shape = operation.shape if operation.kind == OUTPUT else given.shape
            for maker in makers[place] - {block}:
                shapes = found.setdefault((maker, block), {})
                if shape is not None:
                    shapes[shape] = None
    return [Edge(*ends, tuple(shapes)) for ends, shapes in found.items() if _tells(shapes)]


def _tells(shapes: dict[Shape, None]) -> bool:
    """Whether more than single numbers go along an edge, or what goes is not known."""
    return not shapes or any(shapes)


def _block(gathered: _Gathered, flow: Flow) -> Block:
    ran = [flow.operations[place] for place in gathered.operations]
    return block_of_part(gathered.part, gathered.absorbed, gathered.phase, ran, flow)
