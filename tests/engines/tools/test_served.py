"""CVAT's function asks a real TorchServe: the shapes are those of the archive in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from cvat_sdk.api_client.model_utils import to_json
from cvat_sdk.auto_annotation.driver import _DetectionFunctionContextImpl
from PIL import Image

from d2serve.server.annotating.cvat_function import create
from d2serve.server.torchserve.process import TorchServeProcess
from tests.engines.reference import Reference


@pytest.mark.server
def test_torchserve_is_asked(reference: Reference, frames: list[Path]) -> None:
    own = create(archive=str(reference.archive))
    settings = {"default_workers_per_model": "1"}
    with TorchServeProcess({"shapes": reference.archive}, overrides=settings) as server:
        served = create(
            address=server.inference_address, model="shapes", key_file=str(server.key_file)
        )
        assert to_json(served.spec.labels) == to_json(own.spec.labels)
        compared = 0
        for frame in frames:
            context = _DetectionFunctionContextImpl(frame_name=frame.name, conf_threshold=0.5)
            with Image.open(frame) as image:
                found = [to_json(function.detect(context, image)) for function in (own, served)]
            assert found[0] == found[1]
            compared += len(found[0])
    assert compared > 70
