"""What boxes are called, and what is said of them: in detectron2's own words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from d2serve.export.picture.operations import Operation
from d2serve.export.picture.partition import OWN_WORK, PYRAMID, Part

BEFORE, BETWEEN, AFTER = "before", "between", "after"
"""When the whole model's own work runs: in relation to all of its modules."""
_PHASES = {BEFORE: "preprocessing", BETWEEN: "between heads", AFTER: "postprocessing"}

# What is worth saying of work that has no module, by the operators of torch, ONNX and Caffe2.
_TELLING = {
    "topk": "top k",
    "TopK": "top k",
    "nms": "NMS",
    "NonMaxSuppression": "NMS",
    "BoxWithNMSLimit": "NMS",
    "GenerateProposals": "NMS",
    "roi_align": "RoIAlign",
    "RoiAlign": "RoIAlign",
    "RoIAlign": "RoIAlign",
    "_softmax": "softmax",
    "softmax": "softmax",
    "Softmax": "softmax",
    "sigmoid": "sigmoid",
    "Sigmoid": "sigmoid",
    "exp": "box decoding",
    "Exp": "box decoding",
    "BBoxTransform": "box decoding",
    "upsample_bilinear2d": "bilinear resizing",
    "upsample_nearest2d": "enlarging",
    "Resize": "resizing",
    "grid_sampler_2d": "point sampling",
    "GridSample": "point sampling",
    "argmax": "argmax",
    "ArgMax": "argmax",
    "max_pool2d_with_indices": "max pooling",
    "constant_pad_nd": "padding",
    "Pad": "padding",
    "arange": "grid",
    "Range": "grid",
    "sub": "subtraction",
    "Sub": "subtraction",
    "div": "division",
    "Div": "division",
}
_COMMON = ("subtraction", "division")
_MOST_WORDS = 3


def name_of(part: Part, phase: str) -> str:
    """What a box is called."""
    if phase:
        return _PHASES[phase]
    if part.own == (part.path,) and not part.members:
        return OWN_WORK.get(part.name, part.name)
    return part.name


def detail_of(
    part: Part,
    kinds: Mapping[str, str],
    ran: Sequence[Operation],
) -> str:
    """What a box is made of: classes where they are known, otherwise what it computes."""
    if part.name == PYRAMID and kinds.get(part.path):
        return kinds[part.path]
    if part.members:
        tops = [kinds[path] for path in part.members if kinds.get(path)]
        if len(tops) > 1:
            return _counted(tops)
        if tops:
            return _with_items(part.members[0], tops[0], kinds)
    elif part.path and part.name not in OWN_WORK and kinds.get(part.path):
        return kinds[part.path]
    return _computed(ran)


def _with_items(path: str, kind: str, kinds: Mapping[str, str]) -> str:
    """A container's items, where they are of one class; otherwise the class itself."""
    if kind not in ("Sequential", "ModuleList"):
        return kind
    inner = re.compile(rf"{re.escape(path)}\.[^.]+")
    items = [kinds[each] for each in kinds if inner.fullmatch(each) and kinds.get(each)]
    return _counted(items) if items else kind


def _counted(kinds: Sequence[str]) -> str:
    counts = Counter(kinds).most_common(2)
    return ", ".join(f"{count} × {kind}" if count > 1 else kind for kind, count in counts)


def _computed(ran: Sequence[Operation]) -> str:
    multiplying = [each.kind for each in ran if each.multiply_adds != 0]
    if multiplying:
        return _counted(multiplying)
    words = list(dict.fromkeys(_TELLING[each.kind] for each in ran if each.kind in _TELLING))
    rare = [word for word in words if word not in _COMMON]
    if "NMS" in rare or len(rare) > 1:
        words = rare
    if not words:
        return f"{len(ran)} operations" if ran else ""
    return ", ".join(words[-_MOST_WORDS:])
