"""Places a network's boxes in columns and leads its edges around them.

The columns are read like a newspaper's. An edge to the box below is a straight arrow. All other
edges of a box are branches of one line: it leaves below the box, runs in the gutter right of its
column, and where it goes further than the next column, below all columns. So no line crosses a
box, and each line has a track of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from math import ceil

from d2serve.export.picture.network import Edge, Network

# Pixels of the picture.
WIDTH, HEIGHT = 268, 62
GAP = 40
TOP = 108
MARGIN = 20
FRAME_REST = 10
"""Between a frame and the boxes in it."""
_FRAME_TITLE = 24
_GUTTER, _TRACK = 30, 8
SPINE = 26
"""From the left side of a box to the arrow that leads down from it."""
BRANCH = 9
"""From the bottom of a box to where its line branches off."""
_FEWEST_ROWS, _COLUMNS, _MORE_ROWS = 6, 4, 2
NARROWEST = 640


@dataclass(frozen=True)
class Box:
    """Where a block lies: its upper left corner."""

    block: int
    column: int
    x: float
    y: float


@dataclass(frozen=True)
class Frame:
    """Around the blocks of a larger part."""

    name: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Line:
    """An edge's way, corner by corner."""

    edge: Edge
    points: tuple[tuple[float, float], ...]
    is_straight: bool
    """Down to the next box, and nowhere else."""


@dataclass(frozen=True)
class Layout:
    """Where everything lies."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    frames: tuple[Frame, ...]
    lines: tuple[Line, ...]


def lay_out(network: Network) -> Layout:
    """Place what a network has; boxes are in the order of its blocks."""
    columns = _columns(network)
    column_of = {block: number for number, each in enumerate(columns) for block in each}
    below = {a: b for column in columns for a, b in zip(column, column[1:])}
    branching = [edge for edge in network.edges if below.get(edge.source) != edge.target]
    tracks = _tracks(branching, column_of)
    lefts, right = _lefts(tracks, len(columns))
    boxes, frames, bottom = _boxes(network, columns, lefts)
    lines = tuple(_lines(network, boxes, below, tracks, lefts, bottom))
    corridors = 1 + max((y for line in lines for _x, y in line.points), default=bottom)
    return Layout(
        max(right + MARGIN, NARROWEST),
        max(bottom, corridors) + MARGIN,
        tuple(boxes[block] for block in range(len(network.blocks))),
        tuple(frames),
        lines,
    )


def _columns(network: Network) -> list[list[int]]:
    """The blocks of each column; a frame is divided only where it is longer than a column."""
    most = max(_FEWEST_ROWS, ceil(len(network.blocks) / _COLUMNS)) + _MORE_ROWS
    columns: list[list[int]] = [[]]
    for _frame, run in groupby(
        range(len(network.blocks)), key=lambda block: network.blocks[block].frame
    ):
        members = list(run)
        # What comes first has a column's top to itself only where it has to.
        if len(columns) == 1 and all(not network.blocks[block].frame for block in columns[0]):
            fitting = most - len(columns[0])
            columns[0].extend(members[:fitting])
            members = members[fitting:]
        elif len(columns[-1]) + len(members) > most:
            columns.append([])
        for start in range(0, len(members), most):
            if len(columns[-1]) + len(members[start:]) > most:
                columns.append([])
            columns[-1].extend(members[start : start + most])
    return columns


def _tracks(branching: list[Edge], column_of: dict[int, int]) -> dict[tuple[int, int], int]:
    """Which track a block's line has in a gutter; gutter 0 is left of the first column, and -1
    the corridor below all columns."""
    tracks: dict[tuple[int, int], int] = {}
    used: dict[int, int] = {}
    for edge in sorted(branching, key=lambda each: (each.source, each.target)):
        for gutter in _gutters(column_of[edge.source], column_of[edge.target]):
            if (edge.source, gutter) not in tracks:
                tracks[edge.source, gutter] = used.get(gutter, 0)
                used[gutter] = used.get(gutter, 0) + 1
    return tracks


def _gutters(source: int, target: int) -> tuple[int, ...]:
    if target in (source, source + 1):
        return (source + 1,)
    return (source + 1, -1, target)


def _lefts(tracks: dict[tuple[int, int], int], columns: int) -> tuple[list[float], float]:
    """The left side of each column's boxes, and where the last gutter ends."""
    widths = [0.0] * (columns + 1)
    for (_block, gutter), track in tracks.items():
        if gutter >= 0:
            widths[gutter] = max(widths[gutter], (track + 1) * _TRACK)
    lefts, x = [], MARGIN + FRAME_REST + widths[0]
    for column in range(columns):
        lefts.append(x)
        x += WIDTH + _GUTTER + widths[column + 1]
    return lefts, x - _GUTTER + FRAME_REST


def _boxes(
    network: Network, columns: list[list[int]], lefts: list[float]
) -> tuple[dict[int, Box], list[Frame], float]:
    boxes: dict[int, Box] = {}
    frames: list[Frame] = []
    lowest = float(TOP)
    for number, column in enumerate(columns):
        x, y = lefts[number], float(TOP)
        for name, run in groupby(column, key=lambda block: network.blocks[block].frame):
            first = y
            y += _FRAME_TITLE if name else 0
            for block in run:
                boxes[block] = Box(block, number, x, y)
                y += HEIGHT + GAP
            if name:
                # Its last line's label is within, so that boxes have the same distance everywhere.
                frames.append(
                    Frame(name, x - FRAME_REST, first, WIDTH + 2 * FRAME_REST, y - 6 - first)
                )
        lowest = max(lowest, y)
    return boxes, frames, lowest


def _lines(
    network: Network,
    boxes: dict[int, Box],
    below: dict[int, int],
    tracks: dict[tuple[int, int], int],
    lefts: list[float],
    bottom: float,
) -> Iterator[Line]:
    ports = _ports(network, boxes, below)
    for edge in network.edges:
        source, target = boxes[edge.source], boxes[edge.target]
        start = (source.x + SPINE, source.y + HEIGHT)
        if below.get(edge.source) == edge.target:
            yield Line(edge, (start, (target.x + SPINE, target.y)), True)
            continue
        branch = start[1] + BRANCH
        xs = {}
        for gutter in _gutters(source.column, target.column):
            if gutter >= 0:
                left = MARGIN if gutter == 0 else lefts[gutter - 1] + WIDTH + 2 * FRAME_REST
                xs[gutter] = left + tracks[edge.source, gutter] * _TRACK
        port = ports[edge.source, edge.target]
        first = xs[source.column + 1]
        points = [start, (start[0], branch), (first, branch)]
        if target.column not in (source.column, source.column + 1):
            corridor = bottom + tracks[edge.source, -1] * _TRACK
            points += [(first, corridor), (xs[target.column], corridor)]
        side = target.x + WIDTH if target.column == source.column else target.x
        points += [(points[-1][0], port), (side, port)]
        yield Line(edge, tuple(points), False)


def _ports(
    network: Network, boxes: dict[int, Box], below: dict[int, int]
) -> dict[tuple[int, int], float]:
    """At which height an edge enters a box's side."""
    entering: dict[tuple[int, bool], list[int]] = {}
    for edge in network.edges:
        if below.get(edge.source) != edge.target:
            is_right = boxes[edge.source].column == boxes[edge.target].column
            entering.setdefault((edge.target, is_right), []).append(edge.source)
    return {
        (source, target): boxes[target].y + HEIGHT * (place + 1) / (len(sources) + 1)
        for (target, _is_right), sources in entering.items()
        for place, source in enumerate(sorted(sources))
    }
