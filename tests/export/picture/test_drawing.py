"""Layout and SVG of any network."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from d2serve.export.picture.network import FUNCTION, MODULE, TERMINAL, Block, Edge, Network
from d2serve.export.picture.operations import Side
from d2serve.export.picture.svg import svg_of
from d2serve.export.picture.words import amount, figures_of, shapes_text, share_of
from tests.export.picture.geometry import require_readable


def _block(name: str, frame: str = "", weights: int = 0, **more: float) -> Block:
    role = MODULE if weights else FUNCTION
    return Block(name, "", frame, role, f"{frame}.{name}" if frame else name, weights, 0, **more)  # type: ignore[arg-type]


@st.composite
def networks(draw: st.DrawFn) -> Network:
    count = draw(st.integers(0, 28))
    frames = sorted(draw(st.lists(st.sampled_from("abcd"), min_size=count, max_size=count)))
    blocks = [_block(f"part {place}", frame, place) for place, frame in enumerate(frames)]
    ends = Block("input", "", "", TERMINAL, "", 0, 0), Block("output", "", "", TERMINAL, "", 0, 0)
    place = st.integers(0, count + 1)
    pairs = draw(st.sets(st.tuples(place, place).filter(lambda pair: pair[0] != pair[1])))
    shape = (Side(1), Side(256), Side(200, True), Side(None, True))
    edges = [Edge(source, target, (shape,)) for source, target in sorted(pairs)]
    return Network("any", "made up", (ends[0], *blocks, ends[1]), tuple(edges))


@settings(max_examples=150, deadline=None)
@given(networks())
def test_boxes_never_overlap_and_lines_cross_none(network: Network) -> None:
    require_readable(network)


def test_whatever_a_model_is_called_the_picture_is_xml() -> None:
    name = "<script>alert('\x00\x1b\ud800&\"')</script> " + "W" * 300
    block = Block(name, name, name, MODULE, name, 1, 1)
    svg = svg_of(Network(name, name, (block,), ()))
    assert "<script>" not in svg
    root = ElementTree.fromstring(svg.encode("utf-8"))
    assert "alert" in (root.findtext("{http://www.w3.org/2000/svg}title") or "")
    shown = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert max(map(len, shown)) < 120, "a box has only so much room"


def test_a_picture_needs_nothing_of_its_own_and_takes_the_colours_of_the_page() -> None:
    svg = svg_of(Network("x", "", (_block("part"),), ()))
    assert "prefers-color-scheme:dark" in svg
    assert svg.count("http") == 1, "the name space, and no font, script or picture from elsewhere"


def test_percentages_are_of_the_time_where_it_was_measured() -> None:
    blocks = (
        Block("a", "", "", MODULE, "a", 10, 300, seconds=0.3),
        Block("b", "", "", MODULE, "b", 10, 100, seconds=0.9),
    )
    network = Network("x", "", blocks, ())
    assert [share_of(each, network) for each in blocks] == [0.25, 0.75]
    assert "share of the time" in svg_of(network)
    untimed = tuple(Block("a", "", "", MODULE, "a", 10, count) for count in (300, 100, 0))
    network = Network("x", "", untimed, ())
    assert [share_of(each, network) for each in untimed] == [0.75, 0.25, None]
    assert "share of the multiply-adds" in svg_of(network)


def test_numbers_and_shapes_in_words() -> None:
    assert [amount(count) for count in (7, 1234, 56_700_000, 1_234_000_000_000)] == [
        *("7", "1.23 k", "56.7 M", "1.23 T"),
    ]
    levels = [(Side(1), Side(256), Side(size, True), Side(size, True)) for size in (25, 50, 100)]
    assert shapes_text(levels) == "1×256×~100×~100 … (3)"
    assert shapes_text([(Side(0, True), Side(4))]) == "~×4"
    found = _block("head", weights=1000, row_multiply_adds=2000, rows=7)
    assert figures_of(found) == "1.00 k weights · ~7 × 2.00 k mult-adds"
    nothing = _block("head", weights=1000, row_multiply_adds=2000, rows=0)
    assert figures_of(nothing) == "1.00 k weights · 2.00 k mult-adds for each"
