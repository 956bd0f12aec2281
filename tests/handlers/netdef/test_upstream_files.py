"""Files that upstream's own tracer wrote are answered as Caffe2 answered them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from d2serve.handlers.netdef.files import read_nets
from d2serve.handlers.netdef.network import Network
from tests.upstream_files import CASES, DETECTIONS, FOLDER, MODEL_OF, NOTHING, recorded

# Of each: boxes are in pixels, the others are probabilities or logits.
BOUNDS = {"bbox_nms": 2e-3, "keypoints_out": 2e-3, "kps_score": 1e-3}


@pytest.mark.parametrize("name", MODEL_OF)
def test_it_answers_as_caffe2(name: str) -> None:
    network = Network(*read_nets(FOLDER / name))
    answers = recorded(name)
    assert set(answers) == set(CASES)
    for case, given in answers.items():
        got = network.run([torch.from_numpy(given.data), torch.from_numpy(given.im_info)])
        assert given.outputs
        assert given.outputs.keys() <= got.keys()
        for output, expected in given.outputs.items():
            ours = got[output].numpy()
            assert ours.shape == expected.shape, (case, output)
            assert ours.dtype == expected.dtype
            bound = BOUNDS.get(output, 1e-4)
            assert np.allclose(ours, expected, rtol=1e-5, atol=bound, equal_nan=True), output


@pytest.mark.parametrize("name", [name for name in MODEL_OF if name != "retinanet"])
def test_what_was_recorded_has_detections_and_none(name: str) -> None:
    counts = {case: len(given.outputs["score_nms"]) for case, given in recorded(name).items()}
    assert counts[DETECTIONS] > 5
    assert counts[NOTHING] == 0
