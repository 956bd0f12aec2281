"""Raw outputs of programs, and what detectron2's postprocessing makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from hypothesis import strategies as st

from d2serve.handlers.outputs.postprocessing import postprocess
from d2serve.handlers.outputs.records import Detections
from d2serve.handlers.requests.preprocessing import ModelInput
from d2serve.handlers.runtimes.raw_outputs import RawOutputs
from tests.handlers.samples import spec_with


def prepared(height: int, width: int, resized: tuple[int, int]) -> ModelInput:
    return ModelInput(np.zeros((3, *resized), np.float32), height, width)


def instances_of(raw: RawOutputs, image: ModelInput, **spec: Any) -> Detections:
    outputs = postprocess(raw, image, spec_with(**spec))
    assert (outputs.height, outputs.width) == (image.height, image.width)
    assert (outputs.sem_seg, outputs.panoptic_seg, outputs.proposals) == (None, None, None)
    assert outputs.instances is not None
    return outputs.instances


def detectron2_answers(raw: RawOutputs, image: ModelInput) -> Any:
    """The Instances of detector_postprocess, which come by falling score as the model gave them."""
    instances = Instances(image.resized)
    for name, values in raw.items():
        tensor = torch.from_numpy(values.copy())
        instances.set(name, Boxes(tensor) if name == "pred_boxes" else tensor)
    return detector_postprocess(instances, image.height, image.width)


@st.composite
def raw_outputs(draw: st.DrawFn) -> tuple[RawOutputs, ModelInput]:
    """Boxes in, across and outside the image, some empty, with masks and keypoints or not."""
    height, width = draw(st.integers(1, 120)), draw(st.integers(1, 120))
    resized = draw(st.tuples(st.integers(1, 150), st.integers(1, 150)))
    count = draw(st.integers(0, 6))
    sides = (resized[1], resized[0]) * 2
    coordinates = [
        st.one_of(
            st.floats(-side, 2 * side, width=32),
            st.sampled_from([0.0, -0.0, float(side), side / 2, -1.0]),
            st.floats(-(2.0**100), 2.0**100, width=32),
        )
        for side in sides
    ]
    boxes = [[draw(each) for each in coordinates] for _ in range(count)]
    scores = sorted((draw(st.floats(0, 1, width=32)) for _ in range(count)), reverse=True)
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    raw: RawOutputs = {
        "pred_boxes": np.array(boxes, np.float32).reshape(count, 4),
        "scores": np.array(scores, np.float32),
        "pred_classes": generator.integers(0, 80, count),
    }
    if draw(st.booleans()):
        raw["pred_masks"] = generator.random((count, 1, 28, 28), np.float32)
    if draw(st.booleans()):
        keypoints = generator.normal(40, 60, (count, 17, 3))
        raw["pred_keypoints"] = keypoints.astype(np.float32)
    return raw, prepared(height, width, resized)


def raw_boxes(boxes: list[list[float]], scores: list[float]) -> RawOutputs:
    return {
        "pred_boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "scores": np.array(scores, np.float32),
        "pred_classes": np.arange(len(scores)),
    }
