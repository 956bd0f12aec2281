"""An ONNX program stands alone: valid, named, of any size, and it says how to use it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from d2serve.export.archive.opening import opened
from d2serve.export.errors import ProgramError
from d2serve.export.programs.onnx import write_onnx
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import family_of
from d2serve.export.reading.samples import builtin_sample
from d2serve.export.reading.weights import load_model
from d2serve.export.rewrites.registry import exportable
from d2serve.export.rewrites.rewrite import ONNX
from d2serve.handlers.spec.model_spec import read_spec
from tests.conftest import FAMILIES, MODELS, Exporter, source_of
from tests.ways import asked, tiered

EXPORTED = [*MODELS, *(model for model, kinds in FAMILIES.items() if "onnxruntime" in kinds)]


@pytest.fixture(scope="module")
def program_of(
    exported: Exporter, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str], Path]:
    """The .onnx file of an example model, taken out of its archive."""
    exported.ahead(*((model, "onnxruntime") for (model,) in asked(request, "model")))

    def take(model: str) -> Path:
        target = tmp_path_factory.mktemp(model) / "model.onnx"
        with opened(exported(model, "onnxruntime")) as contents:
            target.write_bytes((contents / "model.onnx").read_bytes())
        return target

    return take


@pytest.mark.parametrize(("model", "kind"), tiered((model, "onnxruntime") for model in EXPORTED))
def test_every_family_gives_a_valid_file_of_any_size(
    model: str, kind: str, program_of: Callable[[str], Path], exported: Exporter
) -> None:
    program = onnx.load(program_of(model))
    onnx.checker.check_model(program, full_check=True)
    (opset,) = [each.version for each in program.opset_import if each.domain in ("", "ai.onnx")]
    assert opset >= 16
    image, *others = program.graph.input
    assert image.name == "image"
    # Whatever else there is has a value in the file.
    assert {each.name for each in others} <= {each.name for each in program.graph.initializer}
    channels, height, width = image.type.tensor_type.shape.dim
    assert channels.dim_value == 3
    assert (height.dim_param, width.dim_param) == ("height", "width")
    with opened(exported(model, kind)) as contents:
        spec = read_spec(contents)
    assert tuple(each.name for each in program.graph.input) == spec.inputs
    assert tuple(output.name for output in program.graph.output) == spec.outputs
    assert (spec.runtime, spec.precision, spec.dynamic_batch) == ("onnxruntime", "fp32", False)


def test_onnxruntime_alone_gives_detectron2s_boxes(program_of: Callable[[str], Path]) -> None:
    """As someone without d2serve uses it: the file, its metadata and onnxruntime."""
    session = onnxruntime.InferenceSession(str(program_of("mask_rcnn_fpn")))
    told = session.get_modelmeta().custom_metadata_map
    names = json.loads(told["outputs"])
    assert told["image_format"] == "BGR"
    assert json.loads(told["class_names"]) == ["circle", "rectangle", "triangle"]
    oracle = Oracle(load_config(source_of("mask_rcnn_fpn")))
    sample = builtin_sample()
    image = oracle.model_input(sample)["image"]
    assert isinstance(image, torch.Tensor)
    answer = dict(zip(names, session.run(names, {"image": image.numpy()})))
    expected = oracle.predict(sample)["instances"]
    assert len(expected) > 10
    scale = sample.shape[1] / image.shape[2]
    boxes = expected.pred_boxes.tensor.numpy()
    assert np.abs(answer["pred_boxes"] * scale - boxes).max() < 0.01
    assert answer["pred_classes"].tolist() == expected.pred_classes.tolist()
    assert len(answer["pred_masks"]) == len(expected)
    assert "detail_most" in told["details"]
    few = {"image": image.numpy(), "detail_most": np.array(3)}
    (masks,) = session.run(["pred_masks"], few)
    assert masks.shape == (3, 1, 28, 28)
    assert np.abs(masks - answer["pred_masks"][:3]).max() < 1e-5


def refused(x: torch.Tensor) -> torch.Tensor:
    """An activation that ONNX does not have."""
    answer: torch.Tensor = torch.special.bessel_j0(x)
    return answer


def test_an_operator_that_onnx_lacks_is_named(tmp_path: Path) -> None:
    model = load_model(load_config(source_of("retinanet")))
    stem: Any = model.get_submodule("backbone.bottom_up.stem")
    stem.conv1.activation = refused
    changed, _ = exportable(model, ONNX)
    image = torch.rand(3, 64, 96) * 255
    with pytest.raises(ProgramError, match=r"cannot be exported to ONNX.*bessel_j0.*torchscript"):
        write_onnx(changed, family_of(model).outputs, (image,), tmp_path / "model.onnx", {})
