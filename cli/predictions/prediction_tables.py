"""Tables for the terminal: one for each kind of answer, with the numbers that say most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from d2serve.client.results.instances import XYWHA, Instance
from d2serve.client.results.prediction import PanopticSeg, Prediction, Proposal, SemSeg

PROPOSALS_SHOWN = 10
"""A model gives a thousand."""

_BOX_COLUMN = "box (x0, y0, x1, y1)"
_ROTATED_BOX_COLUMN = "box (cx, cy, w, h, angle)"


def heading(image: str, prediction: Prediction) -> str:
    """What the tables are of; a line of its own, as the title of a narrow table would be folded."""
    return (
        f"[italic]{escape(image)}  {prediction.width} x {prediction.height}  "
        f"{escape(prediction.model)} {escape(prediction.version)}[/]"
    )


def in_a_line(prediction: Prediction) -> str:
    """How much of what there is, in a few words."""
    parts = []
    if prediction.panoptic_seg is not None:
        segments = Counter(each.label() for each in prediction.panoptic_seg.segments_info)
        parts.append(_number_of_each(segments))
    elif prediction.has_instances:
        parts.append(_number_of_each(Counter(each.label() for each in prediction.instances)))
    elif prediction.sem_seg is not None:
        sem_seg = prediction.sem_seg
        by_area = sorted(sem_seg.classes, key=lambda one: -one.area)
        parts += [f"{_share(each.area, sem_seg.size)} {each.label()}" for each in by_area]
    if prediction.proposals is not None:
        parts.append(_counted(len(prediction.proposals), "proposal"))
    return ", ".join(parts)


def tables(prediction: Prediction) -> Iterator[Table]:
    """A table for each kind of answer that the model gives."""
    if prediction.has_instances:
        yield _instances(prediction.instances)
    if prediction.sem_seg is not None:
        yield _sem_seg(prediction.sem_seg)
    if prediction.panoptic_seg is not None:
        yield _panoptic_seg(prediction.panoptic_seg)
    if prediction.proposals is not None:
        yield _proposals(prediction.proposals)


def _instances(instances: tuple[Instance, ...]) -> Table:
    rotated = any(instance.bbox_mode == XYWHA for instance in instances)
    has_masks = any(instance.segmentation is not None for instance in instances)
    has_keypoints = any(instance.keypoints is not None for instance in instances)
    columns = ["score", _ROTATED_BOX_COLUMN if rotated else _BOX_COLUMN]
    columns += ["mask (pixels)"] * has_masks + ["keypoints"] * has_keypoints
    table = _table(["category"], columns, caption=_counted(len(instances), "instance"))
    for instance in instances:
        cells = [escape(instance.label()), f"{instance.score:.3f}", _box(instance.bbox)]
        if has_masks:
            cells.append("" if instance.segmentation is None else str(instance.segmentation.area()))
        if has_keypoints:
            cells.append("" if instance.keypoints is None else str(len(instance.keypoints)))
        table.add_row(*cells)
    return table


def _sem_seg(sem_seg: SemSeg) -> Table:
    caption = _counted(len(sem_seg.classes), "class", "classes")
    table = _table(["class"], ["pixels", "share"], caption=caption)
    for each in sorted(sem_seg.classes, key=lambda one: -one.area):
        table.add_row(escape(each.label()), str(each.area), _share(each.area, sem_seg.size))
    return table


def _panoptic_seg(panoptic_seg: PanopticSeg) -> Table:
    segments = panoptic_seg.segments_info
    columns = ["id", "score", "instance", "pixels", "share"]
    table = _table(["category", "kind"], columns, caption=_counted(len(segments), "segment"))
    for each in segments:
        table.add_row(
            escape(each.label()),
            "thing" if each.isthing else "stuff",
            str(each.id),
            "" if each.score is None else f"{each.score:.3f}",
            "" if each.instance_id is None else str(each.instance_id),
            str(each.area),
            _share(each.area, panoptic_seg.size),
        )
    return table


def _proposals(proposals: tuple[Proposal, ...]) -> Table:
    best = sorted(proposals, key=lambda each: -each.objectness_logit)[:PROPOSALS_SHOWN]
    caption = _counted(len(proposals), "proposal")
    if len(best) < len(proposals):
        caption += f", the best {len(best)} shown"
    table = _table([], ["objectness (logit)", _BOX_COLUMN], caption=caption)
    for each in best:
        table.add_row(f"{each.objectness_logit:.3f}", _box(each.bbox))
    return table


def _number_of_each(labels: Counter[str]) -> str:
    return ", ".join(f"{count} {label}" for label, count in labels.most_common()) or "nothing"


def _table(names: list[str], numbers: list[str], *, caption: str) -> Table:
    table = Table(caption=caption, caption_justify="left")
    for name in names:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _box(bbox: tuple[float, ...]) -> str:
    return ", ".join(f"{number:.1f}" for number in bbox)


def _share(area: int, size: tuple[int, int]) -> str:
    return f"{area / max(1, size[0] * size[1]):.1%}"


def _counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
