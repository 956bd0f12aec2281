"""The promise, for Caffe2 files of upstream's tracer: what TorchServe answers is Caffe2's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from d2serve.export.from_caffe2 import Caffe2Request, export_files
from d2serve.export.request import Progress
from d2serve.server.torchserve.process import TorchServeProcess
from tests.upstream_files import DETECTIONS, FOLDER, MODEL_OF, RGB_MODELS, SCENE, recorded

# RetinaNet's boxes are read off after the network.
NAMES = [name for name in MODEL_OF if name != "retinanet"]


@pytest.mark.server
@pytest.mark.export
@pytest.mark.long
def test_torchserve_answers_as_caffe2(tmp_path: Path) -> None:
    for name in NAMES:
        image_format = "RGB" if name in RGB_MODELS else "BGR"
        # At these sizes the scene keeps its own.
        request = Caffe2Request(
            folder=FOLDER / name,
            name=name,
            min_size_test=147,
            max_size_test=240,
            image_format=image_format,
            output=tmp_path,
        )
        export_files(request, Progress(lambda _step, _parts: None, lambda: None))
    with TorchServeProcess(model_store=tmp_path, enable_model_api=True) as running:
        for name in NAMES:
            running.management.register(f"{name}.mar", model_name=name)
            expected = recorded(name)[DETECTIONS].outputs
            order = np.argsort(-expected["score_nms"])
            found = running.http.predict(name, SCENE).to_outputs().instances
            running.management.unregister(name)
            assert found is not None
            assert len(found) == len(order) > 5
            assert found.classes.tolist() == expected["class_nms"][order].tolist()
            assert np.allclose(found.scores, expected["score_nms"][order], atol=1e-4)
            assert np.allclose(found.boxes, expected["bbox_nms"][order], atol=2e-3)
