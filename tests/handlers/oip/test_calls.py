"""Calls of the Open Inference Protocol: what they may hold, and the shapes of their answers."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from d2serve.handlers.errors import (
    EmptyRequest,
    ImageTooLarge,
    InvalidImage,
    InvalidOption,
    ModelFailed,
)
from d2serve.handlers.oip.inputs import read_call
from d2serve.handlers.oip.metadata import describe
from d2serve.handlers.oip.outputs import binary_outputs, chosen_outputs
from d2serve.handlers.oip.replies import encode_infer, encode_infer_error
from d2serve.handlers.oip.tensors import read_tensor
from d2serve.handlers.outputs.records import Detections, Outputs, Proposals
from d2serve.handlers.replies.fields import tensors_of
from d2serve.handlers.replies.reply import Body
from d2serve.handlers.requests.images import read_pixels
from d2serve.handlers.requests.options import DEFAULT_OPTIONS, NAMES, RequestOptions
from d2serve.handlers.requests.request import GRPC, HTTP, INFER, Call, Request, classify
from d2serve.handlers.spec.image_form import COLOUR
from d2serve.handlers.spec.limits import DEFAULT_LIMITS, RequestLimits
from tests.handlers.samples import bits, cases, spec_with

IMAGE = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["aGk="]}
PIXELS = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 3], "data": [0, 1, 2, 3, 4, 255]}
SPEC = spec_with(
    outputs=("pred_boxes", "scores", "pred_classes", "pred_masks", "pred_keypoints"),
    class_names=("circle", "square"),
)
ALL = [each.name for each in tensors_of(SPEC)]
PLAIN = Body("application/json", b'{"a":1}', "an instance")


class Read(NamedTuple):
    """A call as it is read, its image unpacked."""

    image: Any
    options: Mapping[str, Any]
    outputs: tuple[str, ...] | None


def call_of(body: Any, grpc: bool = False, contents: bytes = b"") -> Call:
    transport = GRPC if grpc else HTTP
    call = classify(Request(body, kind=INFER, transport=transport, id="7"))
    return replace(call, contents=memoryview(contents))


def read(body: Any, grpc: bool = False, contents: bytes = b"") -> Read:
    fields = read_call(call_of(body, grpc, contents))
    return Read(fields.image.load(COLOUR), fields.options, fields.outputs)


def option(name: str, *values: Any, datatype: str = "BYTES") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(values)], "data": list(values)}


class TestInputs:
    def test_pixels_may_be_called_so_as_triton_has_to(self) -> None:
        found = read({"inputs": [{**PIXELS, "name": "pixels"}, option("masks", "none")]})
        assert found.image.tolist() == [[[0, 1, 2], [3, 4, 255]]]
        with pytest.raises(EmptyRequest):
            read({"inputs": [IMAGE, {**PIXELS, "name": "pixels"}]})

    def test_options_are_parameters_or_inputs(self) -> None:
        body = {"inputs": [IMAGE, option("masks", "none")], "parameters": {"max_detections": 3}}
        assert read(body) == Read(b"hi", {"masks": "none", "max_detections": 3}, None)
        body["inputs"] = [option("masks", base64.b64encode(b"none").decode()), IMAGE]
        assert read(body, grpc=True).options == {"masks": b"none", "max_detections": 3}

    def test_options_of_other_types(self) -> None:
        inputs = [
            IMAGE,
            option("score_thresh", 0.7, datatype="FP32"),
            option("max_detections", 3, datatype="INT64"),
            option("classes", "circle", "2"),
        ]
        expected = {"score_thresh": 0.7, "max_detections": 3, "classes": ["circle", "2"]}
        assert read({"inputs": inputs}).options == expected

    @pytest.mark.parametrize(
        "wrong",
        [
            option("masks"),
            option("masks", None),
            option("masks", {}),
            option("masks", "a", datatype="FP32"),
            option("masks", "a", datatype="STRING"),
            {**option("masks", "a"), "datatype": []},
            option("masks", *range(10_001), datatype="INT64"),
            {**option("masks", "a"), "shape": [2]},
            {**option("masks", "a"), "shape": [True]},
            {**option("masks", "a"), "shape": [1] * 9},
            {**option("masks", "a"), "name": 5},
            {**option("masks", "a"), "parameters": {"x": 1}},
            {**option("masks", "a"), "parameters": {"binary_data_size": 1}},
        ],
    )
    def test_inputs_that_are_no_option(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(InvalidOption):
            read({"inputs": [IMAGE, wrong]})
        with pytest.raises(InvalidOption):
            read({"inputs": [wrong, IMAGE]}, grpc=True)

    def test_an_option_twice(self) -> None:
        body = {"inputs": [IMAGE, option("masks", "a")], "parameters": {"masks": "b"}}
        with pytest.raises(InvalidOption, match="'masks' twice"):
            read(body)

    @pytest.mark.parametrize("inputs", [None, [], [5], [IMAGE, IMAGE], [option("a"), option("b")]])
    def test_without_an_image(self, inputs: Any) -> None:
        with pytest.raises(EmptyRequest):
            read({"inputs": inputs})

    @pytest.mark.parametrize("data", [[""], [None], [5]])
    def test_an_image_of_nothing(self, data: Any) -> None:
        with pytest.raises(EmptyRequest, match="no text or empty"):
            read({"inputs": [{**IMAGE, "data": data}]})

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"shape": [1, 2, 4]}, r"expected pixels of one image, \[height, width, 3\]"),
            ({"shape": [2, 1, 2, 3]}, r"expected pixels of one image"),
            ({"shape": [3, 1, 2]}, "in RGB order"),
            ({"shape": [0, 2, 3], "data": []}, "expected pixels of one image"),
            ({"shape": [1, 3, 3]}, r"6 values for the input 'image', expected 9 .* \[1, 3, 3\]"),
            ({"data": [[[0, 1, 2]], [[3, 4, 255]]]}, "nested lists of another shape"),
            ({"data": [[0, 1, 2, 3, 4, 255]]}, "nested lists of another shape"),
            ({"data": [0, 1, 2, 3, 4, 256]}, "whole numbers from 0 to 255"),
            ({"data": [0, 1, 2, 3, 4, -1]}, "whole numbers from 0 to 255"),
            ({"data": [0, 1, 2, 3, 4, 2**80]}, "whole numbers from 0 to 255"),
            ({"data": [0, 1, 2, 3, 4, 1.0]}, "whole numbers from 0 to 255"),
            ({"data": [0, 1, 2, 3, 4, True]}, "whole numbers from 0 to 255"),
            ({"data": [0, 1, 2, 3, 4, "5"]}, "whole numbers from 0 to 255"),
            ({"data": None}, "without data"),
            ({"datatype": "FP32"}, "of FP32 and shape .*, expected an image file, BYTES"),
            ({"datatype": "INT8"}, "of INT8"),
            ({"datatype": "BYTES"}, "of BYTES and shape"),
            ({"datatype": None}, "without a datatype"),
            ({"shape": "1,2,3"}, "without a shape"),
            ({"parameters": {"channel_order": "BGR"}}, "parameters .* do not exist"),
        ],
    )
    def test_pixels_that_are_none(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(InvalidImage, match=message):
            read({"inputs": [{**PIXELS, **change}]})

    def test_limits_hold_before_any_array_is_made(self) -> None:
        def pixels(image: Any, limits: RequestLimits) -> None:
            read_pixels(read_call(call_of({"inputs": [image]})).image, limits)

        huge = {**PIXELS, "shape": [10_000, 10_000, 3], "data": []}
        with pytest.raises(ImageTooLarge, match="10000x10000 pixels, expected at most 50,000,000"):
            pixels(huge, DEFAULT_LIMITS)
        with pytest.raises(ImageTooLarge, match="of 6 bytes, expected at most 5"):
            pixels(PIXELS, RequestLimits(max_image_bytes=5))

    def test_binary_contents(self) -> None:
        def body(*inputs: tuple[str, str, int]) -> dict[str, Any]:
            tensors = [
                {"name": name, "datatype": kind, "shape": [1]}
                | {"parameters": {"binary_data_size": size}}
                for name, kind, size in inputs
            ]
            return {"inputs": tensors}

        def read_binary(contents: bytes, *inputs: tuple[str, str, int]) -> Read:
            return read(body(*inputs), contents=contents)

        contents = struct.pack("<I", 2) + b"hi" + struct.pack("<f", 0.7)
        image, thresh = ("image", "BYTES", 6), ("score_thresh", "FP32", 4)
        assert read_binary(contents, image, thresh) == Read(b"hi", {"score_thresh": 0.7}, None)
        with pytest.raises(InvalidOption, match="4 binary bytes that belong to no input"):
            read_binary(contents, image)
        with pytest.raises(
            InvalidOption, match="binary_data_size='5' for the input 'score_thresh'"
        ):
            read_binary(contents, image, (*thresh[:2], 5))
        with pytest.raises(InvalidImage, match="that are not 1 elements"):
            read_binary(contents, (*image[:2], 10))
        with pytest.raises(InvalidImage, match="that are not 1 elements"):
            read_binary(contents[:5], (*image[:2], 5))
        shaped = body(("image", "UINT8", 5))
        shaped["inputs"][0]["shape"] = [1, 2, 3]
        with pytest.raises(InvalidImage, match=r"5 binary bytes .*, expected 6 times 1"):
            read(shaped, contents=bytes(5))

    @pytest.mark.parametrize("body", [None, b"{nope", [1], "text"])
    def test_what_is_no_object(self, body: Any) -> None:
        with pytest.raises(EmptyRequest, match="expected a call of the Open Inference Protocol"):
            read(body)

    def test_requested_outputs(self) -> None:
        assert read({"inputs": [IMAGE], "outputs": []}).outputs is None
        wish = [{"name": "boxes", "parameters": {"binary_data": True}}, {"name": "x"}]
        assert read({"inputs": [IMAGE], "outputs": wish}).outputs == ("boxes", "x")
        assert read({"inputs": [IMAGE, option("outputs", "boxes", "x")]}).outputs == ("boxes", "x")
        with pytest.raises(InvalidOption, match="'outputs' twice"):
            read({"inputs": [IMAGE, option("outputs", "boxes")], "outputs": wish})

    @pytest.mark.parametrize(
        "outputs", ["boxes", ["boxes"], {}, [{}], [{"name": 5}], [{"name": "a", "parameters": 5}]]
    )
    def test_requested_outputs_that_are_none(self, outputs: Any) -> None:
        with pytest.raises(InvalidOption, match=r"Got outputs that are not \[{"):
            read({"inputs": [IMAGE], "outputs": outputs})

    @cases(200)
    @given(st.data())
    def test_pixels_round_trip(self, data: st.DataObject) -> None:
        height, width = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
        array = data.draw(arrays(np.uint8, (height, width, 3)))
        tensor = {"name": "image", "datatype": "UINT8", "shape": [height, width, 3]}
        binary = {**tensor, "parameters": {"binary_data_size": array.size}}
        images = [
            read({"inputs": [{**tensor, "data": array.ravel().tolist()}]}).image,
            read({"inputs": [{**tensor, "data": array.tolist()}]}).image,
            read(
                {"inputs": [{**tensor, "shape": [1, *array.shape], "data": [array.tolist()]}]}
            ).image,
            read({"inputs": [binary]}, contents=array.tobytes()).image,
        ]
        for image in images:
            assert isinstance(image, np.ndarray)
            assert image.dtype == np.uint8
            assert np.array_equal(image, array)

    @cases(200)
    @given(
        arrays(np.int64, array_shapes(max_dims=4, max_side=4)),
        st.lists(st.binary(max_size=20), max_size=5),
    )
    def test_tensors_round_trip(self, array: NDArray[np.int64], contents: list[bytes]) -> None:
        raw = array.astype("<i8").tobytes()
        packed = b"".join(struct.pack("<I", len(each)) + each for each in contents)
        given: dict[str, Any] = {"name": "x", "datatype": "INT64", "shape": list(array.shape)}
        size = {"parameters": {"binary_data_size": len(raw)}}
        binary, left = read_tensor({**given, **size}, memoryview(raw + b"left"), InvalidOption)
        assert bytes(left) == b"left"
        nested, _ = read_tensor({**given, "data": array.tolist()}, left, InvalidOption)
        flat, _ = read_tensor({**given, "data": array.ravel().tolist()}, left, InvalidOption)
        assert binary.numbers() == nested.numbers() == flat.numbers() == array.ravel().tolist()
        given = {"name": "x", "datatype": "BYTES", "shape": [len(contents)]}
        size = {"parameters": {"binary_data_size": len(packed)}}
        texts, _ = read_tensor({**given, **size}, memoryview(packed), InvalidOption)
        assert texts.elements() == contents


class TestOutputs:
    def test_what_models_have(self) -> None:
        def names(**changes: Any) -> list[str]:
            return [each.name for each in tensors_of(spec_with(**changes))]

        instances = ["image_size", "boxes", "scores", "classes"]
        assert names() == [*instances, "reply"]
        assert [each.name for each in tensors_of(SPEC)] == [
            *instances, "class_names", "masks", "keypoints", "reply"
        ]  # fmt: skip
        assert names(outputs=("sem_seg",)) == ["image_size", "sem_seg", "reply"]
        proposals = ("proposal_boxes", "objectness_logits")
        assert names(outputs=proposals) == ["image_size", *proposals, "reply"]
        rotated = tensors_of(spec_with(box_mode="XYWHA_ABS"))
        assert rotated[1].shape == (-1, 5)

    def test_which_an_answer_has(self) -> None:
        def chosen(wanted: list[str] | None = None, **options: Any) -> tuple[str, ...]:
            return chosen_outputs(wanted, RequestOptions(**options), SPEC)

        all_of_them = tuple(each.name for each in tensors_of(SPEC) if each.name != "reply")
        assert chosen() == all_of_them
        assert chosen(draw="png") == ("reply",)
        assert chosen(masks="none") == tuple(each for each in all_of_them if each != "masks")
        assert chosen(["reply", "boxes"], draw="png") == ("reply", "boxes")
        with pytest.raises(InvalidOption, match="'logits' among the outputs, expected each once"):
            chosen(["logits"])
        with pytest.raises(InvalidOption, match="'masks' among the outputs"):
            chosen(["masks"], masks="none")
        with pytest.raises(InvalidOption, match="'boxes' among the outputs twice"):
            chosen(["boxes", "boxes"])


def found(count: int, seed: int = 0) -> Outputs:
    random = np.random.default_rng(seed)
    detections = Detections(
        height=20,
        width=30,
        boxes=random.random((count, 4), np.float32) * 1000,
        scores=np.sort(random.random(count, np.float32))[::-1],
        classes=random.integers(0, 2, count),
        masks=tuple({"size": [20, 30], "counts": f"X{i}"} for i in range(count)),
        keypoints=random.random((count, 5, 3), np.float32),
    )
    return Outputs(20, 30, detections, None, None, None)


def answered(grpc: bool, outputs: Outputs, names: Any = None, **changes: Any) -> dict[str, Any]:
    names = names or chosen_outputs(None, DEFAULT_OPTIONS, SPEC)
    served, reply = ("shapes", "1.0"), changes.pop("reply", PLAIN)
    wish = (names, DEFAULT_OPTIONS, outputs, SPEC, served)
    got = json.loads(encode_infer(call_of({}, grpc), *wish, lambda: reply).data)
    tensors = {each["name"]: each for each in got.pop("outputs")}
    assert got == {"id": "7", "model_name": "shapes", "model_version": "1.0"}
    return tensors


class TestAnswers:
    @cases(100)
    @given(st.integers(0, 5), st.integers(0, 2**32 - 1), st.booleans())
    def test_tensors_are_exact(self, count: int, seed: int, grpc: bool) -> None:
        outputs = found(count, seed)
        detections = outputs.instances
        assert detections is not None
        tensors = answered(grpc, outputs)
        for name in ("boxes", "scores", "keypoints"):
            array = getattr(detections, name)
            assert tensors[name]["datatype"] == "FP32"
            assert tensors[name]["shape"] == list(array.shape)
            assert bits(tensors[name]["data"]) == bits(array)
        classes = detections.classes.tolist()
        assert tensors["classes"]["data"] == classes
        assert tensors["class_names"]["data"] == [("circle", "square")[i] for i in classes]
        masks = tensors["masks"]["data"]
        assert [each if grpc else json.loads(each) for each in masks] == list(
            detections.masks or ()
        )
        assert tensors["image_size"]["data"] == [20, 30]

    @cases(100)
    @given(st.integers(0, 5), st.integers(0, 2**32 - 1), st.sets(st.sampled_from(ALL)))
    def test_in_binary_they_are_what_they_are_in_json(
        self, count: int, seed: int, in_binary: set[str]
    ) -> None:
        outputs = found(count, seed)
        in_json = answered(False, outputs, ALL)
        wish = [{"name": name, "parameters": {"binary_data": name in in_binary}} for name in ALL]
        body = {"outputs": wish, "parameters": {"binary_data_output": True}}
        served, reply = ("shapes", "1.0"), lambda: PLAIN
        made = encode_infer(call_of(body), ALL, DEFAULT_OPTIONS, outputs, SPEC, served, reply)
        end = int(made.headers.get("Inference-Header-Content-Length", len(made.data)))
        rest = memoryview(made.data)[end:]
        for tensor in json.loads(made.data[:end])["outputs"]:
            expected = in_json[tensor["name"]]
            if tensor["name"] not in in_binary:
                assert tensor == expected
                continue
            read_back, rest = read_tensor(tensor, rest, InvalidOption)
            assert (read_back.datatype, list(read_back.shape)) == (
                expected["datatype"],
                expected["shape"],
            )
            if read_back.datatype == "BYTES":
                assert [each.decode() for each in read_back.elements()] == expected["data"]
            elif read_back.datatype == "FP32":
                assert bits(np.frombuffer(bytes(read_back.data), "<f4")) == bits(expected["data"])
            else:
                assert read_back.numbers() == expected["data"]
        assert not len(rest)

    def test_which_outputs_are_in_binary(self) -> None:
        wish = [{"name": "boxes", "parameters": {"binary_data": False}}, {"name": "scores"}]
        everything = {"parameters": {"binary_data_output": True}}
        assert binary_outputs(call_of({**everything, "outputs": wish}), ["boxes", "scores"]) == {
            "scores"
        }
        assert binary_outputs(call_of(everything), ["boxes", "masks"]) == {"boxes", "masks"}
        assert not binary_outputs(call_of(everything, grpc=True), ["boxes"])
        assert not binary_outputs(call_of({"outputs": wish}), ["boxes", "scores"])
        assert not binary_outputs(
            call_of({"parameters": {"binary_data_output": "true"}, "outputs": None}), ["boxes"]
        )

    def test_in_binary_no_number_is_refused(self) -> None:
        outputs = found(2)
        assert outputs.instances is not None
        outputs.instances.boxes[1, 2] = np.nan
        body = {"parameters": {"binary_data_output": True}}
        wish = (["boxes"], DEFAULT_OPTIONS, outputs, SPEC, ("a", "1"))
        made = encode_infer(call_of(body), *wish, lambda: PLAIN)
        boxes = np.frombuffer(made.data, "<f4", offset=len(made.data) - 32)
        assert np.array_equal(boxes.reshape(2, 4), outputs.instances.boxes, equal_nan=True)

    def test_shapes_are_those_declared(self) -> None:
        tensors = answered(False, found(3), [each.name for each in tensors_of(SPEC)])
        for each in tensors_of(SPEC):
            shape = tensors[each.name]["shape"]
            assert tensors[each.name]["datatype"] == each.datatype
            assert len(shape) == len(each.shape)
            assert all(b in (-1, a) for a, b in zip(shape, each.shape))

    def test_the_reply(self) -> None:
        def data(grpc: bool, reply: Body) -> Any:
            return answered(grpc, found(1), ["reply"], reply=reply)["reply"]["data"]

        assert data(True, PLAIN) == [{"a": 1}]
        assert data(False, PLAIN) == ['{"a":1}']
        picture = {"content_type": "image/png", "picture": "/w=="}
        assert data(True, Body("image/png", b"\xff", "")) == [picture]
        assert [json.loads(each) for each in data(False, Body("image/png", b"\xff", ""))] == [
            picture
        ]

    def test_the_reply_is_not_made_for_nothing(self) -> None:
        def reply() -> Any:
            raise AssertionError

        wish = (["boxes"], DEFAULT_OPTIONS, found(1), SPEC, ("a", "1"))
        assert encode_infer(call_of({}, True), *wish, reply).data

    @pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
    def test_numbers_that_are_none(self, number: float) -> None:
        """They would be null in JSON, which ends the worker of a gRPC call."""
        outputs = found(2)
        assert outputs.instances is not None
        assert outputs.instances.keypoints is not None
        outputs.instances.keypoints[1, 2, 0] = number
        with pytest.raises(ModelFailed, match="keypoints that are no finite numbers"):
            answered(True, outputs)

    def test_proposals(self) -> None:
        spec = spec_with(outputs=("proposal_boxes", "objectness_logits"))
        proposals = Proposals(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        outputs = Outputs(20, 30, None, None, None, proposals)
        names = chosen_outputs(None, DEFAULT_OPTIONS, spec)
        served = ("shapes", "1.0")
        wish = (names, DEFAULT_OPTIONS, outputs, spec, served)
        answer = encode_infer(call_of({}, True), *wish, lambda: PLAIN)
        shapes = [each["shape"] for each in json.loads(answer.data)["outputs"]]
        assert shapes == [[2], [0, 4], [0]]

    def test_errors(self) -> None:
        error, reply = InvalidImage("It is\nnone."), b'{"error":{}}'
        told = json.loads(encode_infer_error(call_of({}), error, reply, ("shapes", "1.0")))
        assert told == {"error": "invalid_image: It is\nnone."}
        told = json.loads(encode_infer_error(call_of({}, True), error, reply, ("shapes", "1.0")))
        output = {"name": "error", "datatype": "BYTES", "shape": [1], "data": [{"error": {}}]}
        named = {"id": "7", "model_name": "shapes", "model_version": "1.0"}
        assert told == {**named, "outputs": [output]}


class TestMetadata:
    def test_what_it_says(self) -> None:
        described = json.loads(describe(SPEC, "shapes", "1.0"))
        assert (described["name"], described["versions"]) == ("shapes", ["1.0"])
        assert described["platform"] == "pytorch_torchscript"
        assert described["outputs"][1] == {"name": "boxes", "datatype": "FP32", "shape": [-1, 4]}
        assert described["class_names"] == ["circle", "square"]
        assert described["limits"]["max_detections"] == 1000
        assert list(described["options"]) == list(NAMES)
        assert described["options"]["masks"] == {
            "type": "string",
            "values": "rle (COCO's run lengths), polygon (COCO's outlines, with holes filled), "
            "none (no masks)",
            "choices": ["rle", "polygon", "none"],
            "default": "rle",
            "help": "How the masks of instances are written.",
        }
        assert described["options"]["score_thresh"]["type"] == "number"
