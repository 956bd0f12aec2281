"""Which outputs go together in one program."""

from __future__ import annotations

from d2serve.handlers.spec.output_names import (
    BOXES,
    CLASSES,
    HEATMAPS,
    KEYPOINTS,
    MASKS,
    OBJECTNESS_LOGITS,
    PROPOSAL_BOXES,
    SCORES,
    SEM_SEG,
    XYWHA_ABS,
    XYXY_ABS,
)


def problems_of_outputs(
    outputs_in_order: tuple[str, ...], box_mode: str, has_panoptic: bool
) -> list[str]:
    """What is wrong with which outputs a spec names, if anything."""
    outputs = set(outputs_in_order)
    instances = {BOXES, SCORES, CLASSES}
    known = (
        outputs in ({SEM_SEG}, {PROPOSAL_BOXES, OBJECTNESS_LOGITS})
        or instances <= outputs <= {*instances, MASKS, KEYPOINTS, HEATMAPS, SEM_SEG}
    ) and len(outputs) == len(outputs_in_order)
    if not known:
        return [
            f"outputs are {outputs_in_order}, expected boxes, scores and classes (with masks, "
            f"keypoints and {SEM_SEG} or not), {SEM_SEG} alone, or {PROPOSAL_BOXES} "
            f"with {OBJECTNESS_LOGITS}"
        ]
    problems = []
    if box_mode == XYWHA_ABS and outputs != instances:
        problems.append(
            f"box_mode is {XYWHA_ABS} and outputs are {outputs_in_order}, expected {XYXY_ABS}"
        )
    merges = {MASKS, SEM_SEG} <= outputs
    if has_panoptic and not merges:
        problems.append(f"panoptic is given, expected {MASKS} and {SEM_SEG} among the outputs")
    if not has_panoptic and outputs > {SEM_SEG}:
        problems.append(f"panoptic is null, expected its thresholds beside instances and {SEM_SEG}")
    return problems
