"""Which modules make one box: stages of a backbone and heads by name, the rest by its weights.

A known part is opened or kept whole by the name that detectron2 gives it. What is unknown is opened
as long as there is room: the part with most weights first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from d2serve.export.picture.network import MOST_BLOCKS
from d2serve.export.picture.operations import parent_of

_OPENED = re.compile(
    r"backbone|bottom_up|net|base|body|model|module|proposal_generator|roi_heads|layers|blocks|"
    r"stages"
)
_KEPT = re.compile(
    r"stem|res\d+|s\d+|layer\d+|fpn|rpn_head|\w*pooler|\w*predictor|box_head|keypoint_head|"
    r"anchor_generator|patch_embed|aspp|activation"
)
_OF_A_PYRAMID = re.compile(r"fpn_\w+\d|simfp_\d+|top_block|lateral_convs|output_convs")
PYRAMID = "fpn"
OWN_WORK = {"proposal_generator": "proposals", "roi_heads": "detections"}
"""What modules do themselves, between the modules in them: names of the boxes."""
# Unknown parts are opened up to this many boxes; the rest are for what happens between modules.
_ROOM, _MOST = 15, MOST_BLOCKS - 6
# More items of one list make several boxes of a run of them each.
_LONG_LIST, _RUNS = 6, 4


@dataclass(frozen=True, eq=False)
class Part:
    """What will be one box."""

    path: str
    """Of its module, or of the one that its modules are in."""
    name: str
    members: tuple[str, ...]
    """Paths of modules that are in it with all they have in them."""
    own: tuple[str, ...] = ()
    """Paths of modules of which only what runs between the modules in them belongs to it."""


@dataclass
class Tree:
    """The modules of a model in which something runs or was learned."""

    weights: Mapping[str, int]
    """By path, with all that is in it."""
    children: dict[str, list[str]] = field(default_factory=dict)

    @staticmethod
    def of(own_weights: Mapping[str, int], running: Iterator[str]) -> Tree:
        """A tree of what is live.

        Args:
            own_weights: numbers that a module has itself, by path.
            running: paths of modules in which operations run, in their order.
        """
        totals: dict[str, int] = {}
        children: dict[str, list[str]] = {}
        live = dict.fromkeys((*running, *(path for path, count in own_weights.items() if count)))
        for path in live:
            here = path
            while here:
                siblings = children.setdefault(parent_of(here), [])
                if here not in siblings:
                    siblings.append(here)
                here = parent_of(here)
        for path, count in own_weights.items():
            here = path
            while True:
                totals[here] = totals.get(here, 0) + count
                if not here:
                    break
                here = parent_of(here)
        return Tree(totals, children)


def partition(tree: Tree) -> list[Part]:
    """Divide a model into parts, each of which will be a box; the root's own is among them."""
    parts = _limited(list(_opened(tree, "")), tree)
    refused: set[str] = set()
    while len(parts) < _ROOM:
        part = max(
            (each for each in parts if _can_be_opened(each, tree) and each.path not in refused),
            key=lambda each: tree.weights.get(each.path, 0),
            default=None,
        )
        if part is None:
            break
        inner = list(_opened(tree, part.path))
        if len(parts) + len(inner) > _MOST:
            refused.add(part.path)
            continue
        place = parts.index(part)
        parts[place : place + 1] = inner
    return _told_apart(parts)


def _told_apart(parts: list[Part]) -> list[Part]:
    """Parts of the same name have their parent's before it."""
    counts = Counter(part.name for part in parts)
    return [
        replace(part, name=f"{_last(parent_of(part.path))}.{part.name}")
        if counts[part.name] > 1 and parent_of(part.path) and part.members == (part.path,)
        else part
        for part in parts
    ]


def _opened(tree: Tree, path: str) -> Iterator[Part]:
    """The parts of a module that is opened: its own work, and what is in it."""
    children = tree.children.get(path, [])
    pyramid = [child for child in children if _OF_A_PYRAMID.fullmatch(_last(child))]
    if pyramid:
        yield Part(path, PYRAMID, tuple(pyramid), (path,))
    else:
        yield Part(path, _last(path), (), (path,))
    others = [child for child in children if child not in pyramid]
    numbered = [child for child in others if _last(child).isdecimal()]
    if len(numbered) > _LONG_LIST:
        yield from _runs(path, sorted(numbered, key=lambda child: int(_last(child))))
        others = [child for child in others if child not in numbered]
    for child in others:
        name = _last(child)
        if tree.children.get(child) and _OPENED.fullmatch(name):
            yield from _opened(tree, child)
        else:
            yield Part(child, _named(child), (child,))


def _runs(path: str, items: list[str]) -> Iterator[Part]:
    for run in range(_RUNS):
        first, end = run * len(items) // _RUNS, (run + 1) * len(items) // _RUNS
        if first < end:
            numbers = f"{_last(items[first])}–{_last(items[end - 1])}"
            yield Part(path, f"{_last(path)} {numbers}", tuple(items[first:end]))


def _can_be_opened(part: Part, tree: Tree) -> bool:
    if part.members != (part.path,) or is_kept(part):
        return False
    children = tree.children.get(part.path, ())
    is_short_row = len(children) <= _LONG_LIST and all(_last(each).isdecimal() for each in children)
    return len(children) > 1 and not is_short_row


def is_kept(part: Part) -> bool:
    """Whether it is known by name as a box of its own."""
    return _KEPT.fullmatch(_last(part.path)) is not None or part.name in (PYRAMID, *OWN_WORK)


def _limited(parts: list[Part], tree: Tree) -> list[Part]:
    """Parts in one another's company until there are few enough: the smallest of a parent's."""
    while len(parts) > _MOST:
        by_parent: dict[str, list[Part]] = {}
        for part in parts:
            if part.path:
                by_parent.setdefault(parent_of(part.path), []).append(part)
        parent, members = max(by_parent.items(), key=lambda item: (len(item[1]), item[0]))
        members.sort(key=lambda part: sum(tree.weights.get(each, 0) for each in part.members))
        merged = members[: max(2, len(parts) - _MOST + 1)]
        place = min(map(parts.index, merged))
        joined = Part(
            parent,
            f"{len(merged)} parts",
            tuple(path for part in merged for path in part.members),
            tuple(path for part in merged for path in part.own),
        )
        parts = [part for part in parts if part not in merged]
        parts.insert(place, joined)
    return parts


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _named(path: str) -> str:
    """A module's name; of an item of a list, with the list's."""
    name = _last(path)
    return f"{_last(parent_of(path))}.{name}" if name.isdecimal() and "." in path else name
