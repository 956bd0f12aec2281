"""What a model answers beyond detectron2's own: from the program to the client, by every form."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from d2serve.client.errors import MalformedReply
from d2serve.client.results.prediction import Prediction, parse_prediction
from d2serve.handlers.detector import Detector
from d2serve.handlers.oip.metadata import describe
from d2serve.handlers.replies.encoding import encode
from d2serve.handlers.requests.options import RequestOptions
from d2serve.handlers.requests.request import INFER, Request
from d2serve.handlers.runtimes.batching import BatchPlanner
from d2serve.handlers.runtimes.raw_outputs import RawOutputs
from d2serve.handlers.service import Service
from d2serve.handlers.spec.extras import DTYPES, IMAGE, INSTANCE, Extra
from d2serve.handlers.spec.model_spec import ModelSpec
from tests.handlers.answers import answer_with, found
from tests.handlers.samples import cases, saved, spec_with

INSTANCES = ("pred_boxes", "scores", "pred_classes")
EXTRAS = (
    Extra("attributes", INSTANCE, "Tensor", "float32", (2,)),
    Extra("rank", INSTANCE, "Tensor", "int64", ()),
    Extra("image_score", IMAGE, "Tensor", "float32", ()),
    Extra("map", IMAGE, "Tensor", "float64", (None, 2)),
)
SPEC = spec_with(
    outputs=(*INSTANCES, *(each.output for each in EXTRAS)), extras=EXTRAS, dynamic_batch=False
)
# The second box is empty, and the scores do not fall.
RAW: RawOutputs = {
    "pred_boxes": np.array([[0, 0, 9, 9], [5, 5, 5, 9], [1, 1, 8, 8], [2, 2, 7, 7]], np.float32),
    "scores": np.array([0.6, 0.9, 0.8, 0.7], np.float32),
    "pred_classes": np.array([0, 0, 1, 1], np.int64),
    "instances.extra.attributes": np.array(
        [[0, 0.1], [1, 0.2], [np.nan, np.inf], [3, 0.3]], np.float32
    ),
    "instances.extra.rank": np.array([10, 11, 12, 13], np.int64),
    "extra.image_score": np.array(0.25, np.float32),
    "extra.map": np.array([[1, 2], [3, -np.inf]], np.float64),
}


PNG = saved(Image.new("RGB", (30, 20), (90, 90, 90)), "PNG")


class Canned:
    """A runtime that answers every image alike."""

    on_gpu = False

    def __init__(self, raw: RawOutputs) -> None:
        self.raw = raw

    def run(self, images: Sequence[Any], *_: object) -> list[RawOutputs]:
        return [self.raw for _ in images]

    def set_threads(self, threads: int) -> None:
        pass


def service(spec: ModelSpec = SPEC, raw: RawOutputs = RAW) -> Service:
    return Service(Detector(spec, Canned(raw), BatchPlanner("auto", False, False)), "own")


def asked(**options: str) -> Prediction:
    return parse_prediction(service().reply(Request(PNG, options)).body)


def ranks(prediction: Prediction) -> list[int]:
    return [instance.extra["rank"] for instance in prediction.instances]


def test_a_field_goes_with_its_instance() -> None:
    """By falling score, without the empty box, and as the options say."""
    assert ranks(asked()) == [12, 13, 10]
    assert ranks(asked(score_thresh="0.65")) == [12, 13]
    assert ranks(asked(max_detections="1")) == [12]
    assert ranks(asked(classes="0")) == [10]


@pytest.mark.parametrize("form", ["json", "base64"])
def test_numbers_that_are_none_or_infinite_arrive(form: str) -> None:
    prediction = asked(extra=form)
    np.testing.assert_array_equal(prediction.instances[0].extra["attributes"], [np.nan, np.inf])
    np.testing.assert_array_equal(prediction.extra["map"], [[1, 2], [3, -np.inf]])
    assert prediction.extra["map"].dtype == np.float64
    assert prediction.extra["image_score"] == 0.25


def test_the_json_is_as_documented() -> None:
    reply = json.loads(service().reply(Request(PNG)).body)
    assert reply["instances"][0]["extra"] == {"attributes": ["NaN", "Infinity"], "rank": 12}
    assert reply["instances"][1]["extra"] == {"attributes": [3, 0.3], "rank": 13}
    assert reply["extra"] == {"image_score": 0.25, "map": [[1, 2], [3, "-Infinity"]]}
    assert reply["extra_fields"][0] == {
        "name": "attributes",
        "per": "instance",
        "kind": "Tensor",
        "dtype": "float32",
        "shape": [2],
    }
    packed = json.loads(service().reply(Request(PNG, {"extra": "base64"})).body)
    assert packed["instances"][1]["extra"]["attributes"] == {
        "dtype": "float32",
        "shape": [2],
        "base64": base64.b64encode(np.array([3, 0.3], "<f4").tobytes()).decode(),
    }
    left_out = json.loads(service().reply(Request(PNG, {"extra": "none"})).body)
    assert "extra" not in json.dumps(left_out)


def infer(*outputs: str, raw: RawOutputs = RAW, **parameters: str) -> dict[str, Any]:
    image = {"name": "image", "datatype": "BYTES", "shape": [1]}
    call = {
        "inputs": [{**image, "data": [base64.b64encode(PNG).decode()]}],
        "parameters": parameters,
    }
    if outputs:
        call["outputs"] = [{"name": each} for each in outputs]
    reply = service(raw=raw).reply(Request(json.dumps(call).encode(), kind=INFER))
    answer: dict[str, Any] = json.loads(reply.body)
    return answer


def test_tensors_of_the_open_inference_protocol() -> None:
    finite = {name: np.nan_to_num(values, posinf=9, neginf=-9) for name, values in RAW.items()}
    outputs = {each["name"]: each for each in infer(raw=finite)["outputs"]}
    declared = {each["name"]: each for each in json.loads(describe(SPEC, "own", "1"))["outputs"]}
    assert declared["instances.extra.rank"]["shape"] == [-1]
    assert declared["extra.map"] == {"name": "extra.map", "datatype": "FP64", "shape": [-1, 2]}
    assert outputs["instances.extra.rank"]["data"] == [12, 13, 10]
    assert outputs["instances.extra.attributes"]["shape"] == [3, 2]
    assert outputs["extra.image_score"]["data"] == [0.25]
    assert outputs["extra.image_score"]["shape"] == declared["extra.image_score"]["shape"] == [1]
    names = {each["name"] for each in infer(extra="none")["outputs"]}
    assert not any("extra" in name for name in names)


def test_a_tensor_that_json_cannot_say_names_itself() -> None:
    assert "instances.extra.attributes" in infer()["error"]
    (reply,) = infer("reply")["outputs"]
    assert parse_prediction(reply["data"][0]).extra["map"][1, 1] == -np.inf


def test_another_shape_than_the_spec_says_is_the_models_failure() -> None:
    raw = {**RAW, "instances.extra.rank": np.zeros((3,), np.int64)}
    reply = service(raw=raw).reply(Request(PNG))
    assert (reply.status, reply.code) == (500, "model_failed")
    assert "rank of the shape [3] for 4 instances" in reply.message


values = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays(np.dtype(dtype), array_shapes(min_dims=0, min_side=0, max_side=3))
)


@cases(200)
@given(values, st.sampled_from(["json", "base64"]), st.booleans())
def test_every_value_arrives_as_it_is(value: Any, form: str, varies: bool) -> None:
    """Of every type and shape, as an image's and as an instance's, in either form."""
    array = np.asarray(value)
    shape = tuple(None if varies else side for side in array.shape)
    extras = tuple(Extra("x", per, "Tensor", array.dtype.name, shape) for per in (INSTANCE, IMAGE))
    spec = spec_with(outputs=(*INSTANCES, *(each.output for each in extras)), extras=extras)
    assert ModelSpec.from_json(spec.to_json()) == spec
    detections = found([[0, 0, 9, 9], [0, 0, 8, 8]])
    object.__setattr__(detections, "extra", {"x": np.stack([array, array])})
    answer = answer_with(detections, extra={"x": array})
    reply = encode(answer, spec, "own", "1", RequestOptions(extra=form))
    outputs = parse_prediction(reply).to_outputs()
    assert outputs.instances is not None
    if not varies or array.size:
        assert outputs.extra["x"].dtype == array.dtype
        np.testing.assert_array_equal(outputs.extra["x"], array)
        np.testing.assert_array_equal(outputs.instances.extra["x"], np.stack([array, array]))


def test_without_instances_their_fields_are_there_all_the_same() -> None:
    none = {name: values[:0] if name[:6] != "extra." else values for name, values in RAW.items()}
    got = parse_prediction(service(raw=none).reply(Request(PNG)).body).to_detectron2()
    fields = got["instances"].get_fields()
    assert fields["attributes"].shape == (0, 2)
    assert str(fields["rank"].dtype) == "torch.int64"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"extra": {"image_score": 1}}, "lacks 'map'"),
        ({"extra": {"image_score": [1], "map": [[1, 2]]}}, "of the shape"),
        ({"extra": {"image_score": "one", "map": [[1, 2]]}}, "could not convert"),
        ({"extra_fields": [{"name": "x"}]}, "'extra_fields' holds"),
    ],
)
def test_a_reply_that_contradicts_itself_is_refused(changed: dict[str, Any], told: str) -> None:
    reply = json.loads(service().reply(Request(PNG)).body)
    with pytest.raises(MalformedReply, match=told):
        parse_prediction({**reply, **changed})


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"dtype": "bfloat16"}, "dtype of the extra 'x'"),
        ({"per": "batch"}, "per of the extra 'x'"),
        ({"kind": "BitMasks"}, "kind of the extra 'x'"),
        ({"name": "a b"}, "letters, digits"),
        ({"name": "y"}, "outputs lack instances.extra.y"),
        ({"shape": [-1]}, "a list of objects with name, per"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(changed: dict[str, Any], told: str) -> None:
    extra = Extra("x", INSTANCE, "Tensor", "float32", (2,))
    spec = spec_with(outputs=(*INSTANCES, extra.output), extras=(extra,))
    raw = json.loads(spec.to_json())
    raw["extras"] = [{**raw["extras"][0], **changed}]
    with pytest.raises(Exception, match=told):
        ModelSpec.from_json(json.dumps(raw))
