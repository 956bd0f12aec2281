"""What a caller may ask for, how it is written, and what is refused before anything is sent."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2serve.client.errors import InvalidInput
from d2serve.client.predict.async_client import AsyncD2ServeClient
from d2serve.client.predict.grpc_client import D2ServeGrpcClient
from d2serve.client.predict.http_client import D2ServeClient
from d2serve.client.predict.options import PredictOptions, encode_options, encode_picture_options
from d2serve.handlers.requests.options import NAMES, OPTIONS, RequestOptions
from tests.handlers.samples import cases, spec_with

names = st.text(min_size=1)


def test_without_wishes_nothing_is_sent() -> None:
    assert encode_options() == {}
    assert encode_options(score_thresh=None, classes=None, masks="rle", sem_seg="png") == {}


@pytest.mark.parametrize("name", NAMES)
def test_every_option_of_the_server_is_an_argument_of_every_client(name: str) -> None:
    """``draw`` is the method predict_picture, with its argument ``format``."""
    if name == "draw":
        assert encode_picture_options("jpeg") == {"draw": b"jpeg"}
    else:
        assert name in PredictOptions.__annotations__
        wishes: dict[str, Any] = {"score_thresh": 0.5, "max_detections": 3, "classes": [1]}
        wishes.update((option.name, [*option.choices][-1]) for option in OPTIONS if option.choices)
        assert list(encode_options(**{name: wishes[name]})) == [name]


def test_the_clients_have_no_other_options() -> None:
    assert {*PredictOptions.__annotations__} == {*NAMES} - {"draw"}
    for client in (D2ServeClient, D2ServeGrpcClient, AsyncD2ServeClient):
        for method, options in ("predict", "Predict"), ("predict_picture", "Picture"):
            taken = inspect.signature(getattr(client, method)).parameters["options"].annotation
            assert taken == f"Unpack[{options}Options]"
    with pytest.raises(TypeError, match="unexpected option 'score'"):
        encode_options(score=0.5)  # type: ignore[call-arg]


@cases(100)
@given(
    thresh=st.floats(0.05, 1),
    most=st.integers(1, 1000),
    wanted=st.sets(names, min_size=1, max_size=4),
    data=st.data(),
)
def test_the_server_reads_what_was_meant(
    thresh: float, most: int, wanted: set[str], data: st.DataObject
) -> None:
    """Names with commas, brackets, quotes, blanks at their ends and digits alone among them."""
    known = tuple(data.draw(st.permutations(sorted(wanted | {"circle", "a, b", "[x]", "7"}))))
    spec = spec_with(class_names=known)
    ids = frozenset(known.index(each) for each in wanted)
    asked: list[Any] = [sorted(wanted), [*ids], [np.int64(each) for each in ids]]
    for classes in asked:
        sent = encode_options(score_thresh=thresh, max_detections=most, classes=classes)
        read = RequestOptions.parse(sent, spec)
        assert (read.score_thresh, read.max_detections) == (thresh, most)
        assert read.classes == ids


def test_numbers_of_numpy_are_numbers() -> None:
    sent = encode_options(score_thresh=np.float32(0.3), max_detections=np.int64(7))  # type: ignore[arg-type]
    assert float(sent["score_thresh"]) == np.float32(0.3)
    assert sent["max_detections"] == b"7"


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, float])
def test_the_threshold_that_a_model_has_is_not_below_it(kind: Any) -> None:
    """In float32 0.7 is a little less than 0.7, and not meant to be."""
    for meant in (b"0.7", b"0.3", b"0.05", b"1.0"):
        given = kind(float(meant))
        assert encode_options(score_thresh=given) == {"score_thresh": meant}
        read = RequestOptions.parse(
            encode_options(score_thresh=given), spec_with(score_thresh=float(meant))
        )
        assert read.score_thresh == float(meant)
    assert encode_options(score_thresh=float(np.float32(0.7))) == {"score_thresh": b"0.7"}


def test_a_text_is_a_name_and_a_number_an_id() -> None:
    """A class may be named "2", which is the id of another."""
    spec = spec_with(class_names=("2", "circle", "square"))
    for classes, ids in ((["2"], {0}), ([2], {2}), (["1"], {1}), (["2", 2], {0, 2})):
        wanted: Any = classes
        assert RequestOptions.parse(encode_options(classes=wanted), spec).classes == frozenset(ids)


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"score_thresh": 1.1}, "score_thresh is 1.1: expected a number from 0 to 1"),
        ({"score_thresh": -0.1}, "score_thresh is -0.1"),
        ({"score_thresh": float("nan")}, "score_thresh is nan"),
        ({"score_thresh": True}, "score_thresh is True"),
        ({"score_thresh": "0.5"}, "score_thresh is '0.5'"),
        ({"score_thresh": [0.5]}, "score_thresh is"),
        ({"max_detections": 0}, "max_detections is 0: expected a whole number from 1 on"),
        ({"max_detections": 2.0}, "max_detections is 2.0"),
        ({"max_detections": True}, "max_detections is True"),
        ({"classes": "circle"}, r"put a single one into a list: \['circle'\]"),
        ({"classes": b"circle"}, "put a single one into a list"),
        ({"classes": []}, "one at least"),
        ({"classes": 3}, "classes is 3"),
        ({"classes": [1.5]}, "classes holds 1.5: expected names, or ids from 0 on"),
        ({"classes": [-1]}, "classes holds -1"),
        ({"classes": ["circle", None]}, "classes holds None"),
        ({"classes": [True]}, "classes holds True"),
        ({"masks": "polygons"}, "masks is 'polygons': expected 'rle'"),
        ({"masks": None}, "masks is None"),
        ({"sem_seg": "RLE"}, r"sem_seg is 'RLE': expected 'png' \(one label map\)"),
    ],
)
def test_what_no_model_could_be_asked_for(wish: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        encode_options(**wish)
    with pytest.raises(InvalidInput, match=told):
        encode_picture_options("png", **wish)


@pytest.mark.parametrize("wanted", ["gif", "PNG", "", None, 1])
def test_pictures_are_png_or_jpeg(wanted: Any) -> None:
    with pytest.raises(InvalidInput, match=r"expected 'png' .* or 'jpeg'"):
        encode_picture_options(wanted)
