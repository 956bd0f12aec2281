"""What the page reads out of replies is what pycocotools, Pillow and the drawing engine have."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco

from d2serve.client.results.instances import Instance
from d2serve.handlers.replies.drawing import PROPOSALS_DRAWN
from d2serve.handlers.replies.label_maps import to_png
from d2serve.handlers.replies.pen import colour_of
from d2serve.server.page.server import PageServer
from d2serve.server.torchserve.config.ports import Ports
from tests.client import handmade
from tests.deploy.proxy.browser import Browser, needs_chromium

pytestmark = [pytest.mark.long, needs_chromium]

Bits = NDArray[np.bool_]
MASKS = """
const { maskOf } = await import("/masks.js");
return arguments[0].map(rle => {
  const { left, top, width, height, bits } = maskOf(rle);
  return [left, top, width, height, bits.join("")];
});
"""
LABELS = """
const { labelMap } = await import("/label_maps.js");
const read = async png => {
  const { width, height, labels } = await labelMap(png);
  return [width, height, Array.from(labels)];
};
return Promise.all(arguments[0].map(png => read(png).catch(error => String(error))));
"""
VIEWS = """
const { viewsOf, itemAt } = await import("/found.js");
const views = await viewsOf(arguments[0]);
return views.map(({ name, items, most }) => ({
  name, most, items: items.map(({ mask, ...rest }) => rest),
  at: (arguments[1] ?? []).map(([x, y]) => items.indexOf(itemAt(x, y, items, views[0].map))),
}));
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("browser")
    with PageServer(Ports.free().inference, Ports()) as page, Browser(folder) as made:
        made.open(page.address)
        yield made


def blobs(random: np.random.Generator, height: int, width: int) -> Bits:
    """A mask with runs of all lengths: noise that is as coarse as chance has it."""
    step = int(random.integers(1, 9))
    coarse = random.random((height // step + 1, width // step + 1)) < random.random()
    return coarse.repeat(step, 0).repeat(step, 1)[:height, :width]


def masks() -> list[Bits]:
    random = np.random.default_rng(7)
    sizes = random.integers(1, 70, (400, 2)).tolist()
    whole = [np.ones((h, w), bool) for h, w in ((1, 1), (5, 3), (3000, 1))]
    none = [np.zeros((h, w), bool) for h, w in ((1, 1), (5, 3))]
    corner = np.zeros((2500, 3000), bool)  # runs of millions, which take five groups of bits
    corner[-1, -1] = True
    stripes = np.zeros((64, 64), bool)
    stripes[:, ::2] = True
    edges = np.zeros((9, 9), bool)
    edges[0], edges[-1] = True, True  # runs that go on from a column to the next
    return [*(blobs(random, h, w) for h, w in sizes), *whole, *none, corner, stripes, edges]


def test_run_lengths_are_read_as_pycocotools_reads_them(browser: Browser) -> None:
    expected = masks()
    rles = [coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in expected]
    sent = [{"size": rle["size"], "counts": rle["counts"].decode()} for rle in rles]
    read = browser.run(MASKS, sent)
    assert len(read) == len(expected) > 400
    for (left, top, width, height, bits), rle in zip(read, rles):
        found = np.zeros(rle["size"], np.uint8)
        part = np.frombuffer(bits.encode(), np.uint8) - ord("0")
        found[top : top + height, left : left + width] = part.reshape(height, width)
        assert np.array_equal(found, coco.decode(rle))
        assert not width or (part.any() and width * height <= found.size)


def test_label_maps_of_8_and_16_bits(browser: Browser) -> None:
    random = np.random.default_rng(8)
    expected: list[NDArray[np.int32]] = []
    for most in (1, 2, 255, 256, 257, 65_535):
        for height, width in ((1, 1), (1, 50), (50, 1), (37, 53)):
            labels = random.integers(0, most, (height, width), endpoint=True)
            smooth = np.sort(labels, axis=1)  # for which a PNG's writer takes other filters
            expected += [labels.astype(np.int32), smooth.astype(np.int32)]
    read = browser.run(LABELS, [to_png(labels) for labels in expected])
    assert len(read) == 48
    for (width, height, flat), wanted in zip(read, expected):
        assert np.array_equal(np.array(flat).reshape(height, width), wanted)


@pytest.mark.parametrize("filter_type", range(5))
@pytest.mark.parametrize("depth", [8, 16])
def test_each_filter_of_png(browser: Browser, filter_type: int, depth: int) -> None:
    labels = np.random.default_rng(9).integers(0, 2**depth, (20, 30)).astype(f">u{depth // 8}")
    png = handmade_png(labels, filter_type)
    ((width, height, flat),) = browser.run(LABELS, [base64.b64encode(png).decode()])
    assert np.array_equal(np.array(flat).reshape(height, width), labels)


def handmade_png(labels: NDArray[Any], filter_type: int) -> bytes:
    """A grey PNG all of whose lines have one filter (PNG's specification, 9.2)."""
    import struct
    import zlib

    height, width = labels.shape
    size = labels.itemsize
    lines = np.frombuffer(labels.tobytes(), np.uint8).reshape(height, width * size).astype(int)
    left, above = np.zeros_like(lines), np.zeros_like(lines)
    left[:, size:], above[1:] = lines[:, :-size], lines[:-1]
    corner = np.zeros_like(lines)
    corner[1:, size:] = lines[:-1, :-size]
    guess = left + above - corner
    away = np.stack([abs(guess - left), abs(guess - above), abs(guess - corner)])
    paeth = np.choose(away.argmin(axis=0), [left, above, corner])
    taken = [0 * lines, left, above, (left + above) // 2, paeth][filter_type]
    filtered = ((lines - taken) % 256).astype(np.uint8)
    raw = np.insert(filtered, 0, filter_type, axis=1).tobytes()

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", 0)

    head = struct.pack(">IIBBBBB", width, height, 8 * size, 0, 0, 0, 0)
    packed = zlib.compress(raw)
    parts = [chunk(b"IDAT", packed[:100]), chunk(b"IDAT", packed[100:])]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(parts) + chunk(b"IEND", b"")


def test_another_png_is_refused_rather_than_misread(browser: Browser) -> None:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, "PNG")
    (said,) = browser.run(LABELS, [base64.b64encode(file.getvalue()).decode()])
    assert "expected grey of 8 or 16" in said


def test_colours_are_those_of_the_drawing_engine(browser: Browser) -> None:
    script = """
        const { colourOf } = await import("/found.js");
        return Array.from({ length: 300 }, (_, i) => [colourOf(i), colourOf(i, true)]);
    """
    for number, (thing, stuff) in enumerate(browser.run(script)):
        for shown, drawn in ((thing, colour_of(number)), (stuff, colour_of(number, stuff=True))):
            assert np.abs(np.subtract(shown, drawn)).max() <= 1, number  # halves are rounded apart


def test_boxes_upright_and_rotated(browser: Browser) -> None:
    boxes = [
        handmade.instance(0, 10, 20, 40, 30),
        handmade.instance(1, 50, 60, 40, 10, 30.0),
        handmade.instance(2, 50, 60, 40, 10, -135.0),
    ]
    for box in boxes:
        ((view),) = browser.run(VIEWS, {"instances": [box]}, [[25, 25], [0, 0]])
        (item,) = view["items"]
        expected = Instance(tuple(box["bbox"]), box["bbox_mode"], 1.0, 0).corners()
        assert np.allclose(item["corners"], expected, atol=1e-3)
    middle_and_tips = [[50, 60], [64, 52], [64, 68], [36, 68], [36, 52]]
    (view,) = browser.run(VIEWS, {"instances": [boxes[1]]}, middle_and_tips)
    assert view["at"] == [0, 0, -1, 0, -1], "turned counter-clockwise, as detectron2 says"


def test_proposals_have_probabilities_and_as_many_are_drawn_as_by_the_server(
    browser: Browser,
) -> None:
    proposals = [handmade.proposal(logit, 0, 0, 9, 9) for logit in (5, 0, -5)]
    (view,) = browser.run(VIEWS, {"proposals": proposals})
    assert [round(item["score"], 3) for item in view["items"]] == [0.993, 0.5, 0.007]
    assert view["most"] == PROPOSALS_DRAWN


def test_the_views_of_a_panoptic_reply(browser: Browser) -> None:
    ids = np.array([[1, 1, 2, 0]] * 3)
    reply = {
        "instances": [handmade.instance(0, 0, 0, 2, 3)],
        "sem_seg": handmade.sem_seg(np.array([[0, 0, 4, 300]] * 3)),
        "panoptic_seg": handmade.panoptic_seg(
            ids, handmade.thing(ids, 1), handmade.stuff(ids, 2, 4, category_name="sky")
        ),
    }
    panoptic, instances, semantic = browser.run(
        VIEWS, json.loads(json.dumps(reply)), [[0, 0], [2, 1], [3, 2]]
    )
    assert [view["name"] for view in (panoptic, instances, semantic)] == [
        "panoptic",
        "instances",
        "semantic",
    ]
    assert panoptic["at"] == [0, 1, -1], "the thing, the stuff, and where nothing is"
    assert [item["name"] for item in panoptic["items"]][1] == "sky"
    assert len(semantic["items"]) == 3
