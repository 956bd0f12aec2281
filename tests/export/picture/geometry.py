"""What must hold of every picture, whatever it shows."""

from __future__ import annotations

from itertools import combinations, pairwise
from xml.etree import ElementTree

from d2serve.export.picture.layout import HEIGHT, WIDTH, Box, Layout, lay_out
from d2serve.export.picture.network import MOST_BLOCKS, Network
from d2serve.export.picture.svg import svg_of

_MOST_BYTES = 100_000
_NAMES = {"svg": "http://www.w3.org/2000/svg"}


def require_readable(network: Network) -> ElementTree.Element:
    """Check a network's layout and its SVG text; the parsed picture."""
    assert 2 <= len(network.blocks) <= MOST_BLOCKS
    layout = lay_out(network)
    require_apart(layout)
    require_connected(layout)
    svg = svg_of(network)
    assert len(svg.encode()) < _MOST_BYTES
    root = ElementTree.fromstring(svg)
    assert root.get("viewBox") == f"0 0 {round(layout.width)} {round(layout.height)}"
    assert len(root.findall("svg:g", _NAMES)) == len(network.blocks)
    assert len(root.findall("svg:path", _NAMES)) == len(network.edges)
    # Whoever cannot see it is told the same.
    described = root.findtext("svg:desc", "", _NAMES)
    assert all(block.name in described for block in network.blocks)
    assert all(each.findtext("svg:title", "", _NAMES) for each in root.findall("svg:g", _NAMES))
    return root


def require_apart(layout: Layout) -> None:
    """Boxes lie within the picture, and none upon another."""
    for box in layout.boxes:
        assert box.x >= 0
        assert box.x + WIDTH <= layout.width
        assert box.y >= 0
        assert box.y + HEIGHT <= layout.height
    for one, other in combinations(layout.boxes, 2):
        assert abs(one.x - other.x) >= WIDTH or abs(one.y - other.y) >= HEIGHT


def require_connected(layout: Layout) -> None:
    """A line begins below its source, ends at a side of its target, and crosses no box."""
    for line in layout.lines:
        source, target = layout.boxes[line.edge.source], layout.boxes[line.edge.target]
        x, y = line.points[0]
        assert source.x < x < source.x + WIDTH
        assert y == source.y + HEIGHT
        x, y = line.points[-1]
        on_top = target.x < x < target.x + WIDTH and y == target.y
        at_side = x in (target.x, target.x + WIDTH) and target.y < y < target.y + HEIGHT
        assert on_top or at_side
        for here, there in pairwise(line.points):
            assert here[0] == there[0] or here[1] == there[1]
            assert all(0 <= x <= layout.width and 0 <= y <= layout.height for x, y in (here, there))
            assert not any(_crosses(here, there, box) for box in layout.boxes)


def _crosses(here: tuple[float, float], there: tuple[float, float], box: Box) -> bool:
    left, right = sorted((here[0], there[0]))
    top, bottom = sorted((here[1], there[1]))
    return left < box.x + WIDTH and right > box.x and top < box.y + HEIGHT and bottom > box.y
