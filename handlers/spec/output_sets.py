"""Which outputs go together in one program."""

from __future__ import annotations

from d2serve.handlers.spec.output_names import (
    BOXES,
    CLASSES,
    HEATMAPS,
    KEYPOINTS,
    MASKS,
    OBJECTNESS_LOGITS,
    PANOPTIC_SEG,
    PROPOSAL_BOXES,
    SCORES,
    SEGMENTS_INFO,
    SEM_SEG,
    XYWHA_ABS,
    XYXY_ABS,
)

_INSTANCES = {BOXES, SCORES, CLASSES}
_PROPOSALS = {PROPOSAL_BOXES, OBJECTNESS_LOGITS}
_PANOPTIC = {PANOPTIC_SEG, SEGMENTS_INFO}
_MOST_CLASSES = 1_000_000  # far more than a data set has; each takes four bytes of a request


def problems_of_outputs(
    outputs_in_order: tuple[str, ...], box_mode: str, has_panoptic: bool, postprocessed: bool
) -> list[str]:
    """What is wrong with which outputs a spec names, if anything."""
    outputs = set(outputs_in_order)
    groups = (_INSTANCES, _PROPOSALS, _PANOPTIC)
    possible = {SEM_SEG, *_PROPOSALS, *(_PANOPTIC if postprocessed else ())}
    if BOXES in outputs:
        # The handler reads keypoints off heatmaps in the resized image only.
        possible |= {*_INSTANCES, MASKS, KEYPOINTS, *(() if postprocessed else (HEATMAPS,))}
    known = (
        set() < outputs <= possible
        and len(outputs) == len(outputs_in_order)
        and all(group <= outputs or not group & outputs for group in groups)
    )
    if not known:
        return [
            f"outputs are {outputs_in_order}, expected boxes, scores and classes (with masks and "
            f"keypoints or not), {SEM_SEG}, {PROPOSAL_BOXES} with {OBJECTNESS_LOGITS}, or several "
            f"of these; {PANOPTIC_SEG} with {SEGMENTS_INFO} only where they are postprocessed"
        ]
    problems = []
    if box_mode == XYWHA_ABS and outputs != _INSTANCES and not postprocessed:
        problems.append(
            f"box_mode is {XYWHA_ABS} and outputs are {outputs_in_order}, expected {XYXY_ABS}"
        )
    if has_panoptic and (postprocessed or not {MASKS, SEM_SEG} <= outputs):
        problems.append(
            f"panoptic is given, expected {MASKS} and {SEM_SEG} among the outputs, to be merged"
        )
    return problems


def problems_of_details(
    classes: int | None, outputs: tuple[str, ...], needs_all: bool
) -> list[str]:
    """What is wrong with making details only where they are asked for, if anything.

    Args:
        classes: the spec's ``detail_classes``.
        outputs: detectron2's own, of the program.
        needs_all: whether what comes after needs the masks of all instances.
    """
    has_some = bool({MASKS, KEYPOINTS, HEATMAPS} & {*outputs})
    if classes is None or (0 < classes <= _MOST_CLASSES and has_some and not needs_all):
        return []
    return [
        f"detail_classes is {classes}, expected 1 to {_MOST_CLASSES:,}, of a program that answers "
        f"{MASKS}, {KEYPOINTS} or {HEATMAPS} and is neither postprocessed nor panoptic, or null"
    ]
