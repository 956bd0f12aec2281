"""Writes a network as an SVG picture that any browser shows, in light and in dark.

It needs no font, script or file of its own. A pointer over a box or a line shows all that is known
of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from textwrap import wrap

from d2serve.export.picture.layout import (
    FRAME_REST,
    GAP,
    HEIGHT,
    SPINE,
    WIDTH,
    Box,
    Frame,
    Layout,
    Line,
    lay_out,
)
from d2serve.export.picture.network import FUNCTION, TERMINAL, Block, Network
from d2serve.export.picture.words import (
    LEGEND,
    figures_of,
    shape_text,
    shapes_text,
    share_of,
    totals_of,
)

_STYLE = """
svg{--back:#fff;--ink:#1c2430;--soft:#5b6675;--line:#8a95a5;--box:#fff;--plain:#f4f6f8;--edge:#b9c2cd;
--frame:#f3f6fa;--c0:#2f6fbf;--c1:#b4531f;--c2:#2c8554;--c3:#8a4fbf;--c4:#a8812a;
--c5:#c03d6b}
@media(prefers-color-scheme:dark){svg{--back:#14181e;--ink:#e8ecf1;--soft:#a3aebc;--line:#77828f;
--box:#1f252d;--plain:#191e25;--edge:#46515e;--frame:#1a2027;--c0:#6ea8f0;--c1:#f0975f;
--c2:#62c78f;--c3:#c295f2;--c4:#dcb75a;--c5:#f07fa8}}
text{font:11px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:var(--ink)}
.title{font-size:18px;font-weight:600}.name{font-size:13px;font-weight:600}
.soft{fill:var(--soft)}.shape{font-size:10.5px;fill:var(--soft)}
.line{fill:none;stroke:var(--line);stroke-width:1.4}.line:hover{stroke-width:3}
.back{stroke-dasharray:5 4}
.box{fill:var(--box);stroke:var(--edge)}.function{fill:var(--plain);stroke-dasharray:3 2}
.idle{opacity:.55}.frame{fill:var(--frame)}
"""
_HUES = 6
_UNPRINTABLE = re.compile(r"[^\t\n\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")
# Mean width of a letter in relation to the size of the type, on the safe side.
_LETTER = 0.57


def svg_of(network: Network) -> str:
    """The picture of a network, as the text of an SVG file."""
    layout = lay_out(network)
    hues = _hues(network)
    width, height = round(layout.width), round(layout.height)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" aria-labelledby="title description">',
            f'<title id="title">{_text(network.title)}</title>',
            f'<desc id="description">{_text(_description(network))}</desc>',
            f"<style>{_STYLE}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="context-stroke"/>'
            "</marker></defs>",
            '<rect width="100%" height="100%" fill="var(--back)"/>',
            *_heading(network, width),
            *(_frame(each, hues) for each in layout.frames),
            *_lines(network, layout, hues),
            *(_box(each, network, hues) for each in layout.boxes),
            *_shapes(network, layout),
            "</svg>",
            "",
        ]
    )


def _hues(network: Network) -> dict[str, str]:
    """A colour for each of the larger parts."""
    parts = dict.fromkeys(_part_of(block) for block in network.blocks if block.path)
    return {name: f"var(--c{place % _HUES})" for place, name in enumerate(parts)}


def _part_of(block: Block) -> str:
    return block.path.partition(".")[0]


def _description(network: Network) -> str:
    blocks = network.blocks
    names = ", ".join(block.name for block in blocks)
    ways = (f"{blocks[edge.source].name} to {blocks[edge.target].name}" for edge in network.edges)
    return f"{network.about}. {totals_of(network)}. Parts: {names}. Ways: {'; '.join(ways)}."


def _heading(network: Network, width: int) -> Iterator[str]:
    title = _fitting(network.title, width - 40, 18)
    yield f'<text class="title" x="20" y="34">{_text(title)}</text>'
    for line, note in enumerate((network.about, totals_of(network), LEGEND)):
        shown = _fitting(note, width - 40, 11)
        yield f'<text class="soft" x="20" y="{54 + 16 * line}">{_text(shown)}</text>'


def _frame(frame: Frame, hues: dict[str, str]) -> str:
    name = _text(_fitting(frame.name, WIDTH - SPINE, 11))
    return (
        f'<rect class="frame" x="{frame.x:g}" y="{frame.y:g}" width="{frame.width:g}" '
        f'height="{frame.height:g}" rx="8"/>'
        f'<text x="{frame.x + FRAME_REST + SPINE + 8:g}" y="{frame.y + 16:g}" '
        f'style="fill:{hues[frame.name]};font-weight:600">{name}</text>'
    )


def _lines(network: Network, layout: Layout, hues: dict[str, str]) -> Iterator[str]:
    for line in layout.lines:
        source, target = network.blocks[line.edge.source], network.blocks[line.edge.target]
        told = ", ".join(map(shape_text, line.edge.shapes)) or "shapes are not known"
        colour = "" if line.is_straight else hues.get(_part_of(source), "")
        style = f' style="stroke:{colour}"' if colour else ""
        kind = "line back" if line.edge.goes_back else "line"
        yield (
            f'<path class="{kind}" d="{_way(line)}" marker-end="url(#tip)"{style}>'
            f"<title>{_text(f'{source.name} → {target.name}: {told}')}</title></path>"
        )


def _way(line: Line) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in line.points)


def _shapes(network: Network, layout: Layout) -> Iterator[str]:
    """Below each box what it gives on, beside the arrow that leads from it."""
    for box in layout.boxes:
        edges = [edge for edge in network.edges if edge.source == box.block]
        shapes = list(dict.fromkeys(shape for edge in edges for shape in edge.shapes))
        if shapes:
            label = _fitting(shapes_text(shapes), WIDTH - SPINE - 6, 10.5)
            yield (
                f'<text class="shape" x="{box.x + SPINE + 8:g}" '
                f'y="{box.y + HEIGHT + GAP * 0.62:g}">{_text(label)}</text>'
            )


def _box(box: Box, network: Network, hues: dict[str, str]) -> str:
    block, x, y = network.blocks[box.block], box.x, box.y
    share = share_of(block, network)
    percent = "" if share is None else f"{share:.0%}"
    kind = "box function" if block.role == FUNCTION else "box"
    corner = HEIGHT // 2 if block.role == TERMINAL else 6
    figures = (
        f'<text text-anchor="end" x="{x + WIDTH - 10:g}" y="{y + 20:g}">{percent}</text>'
        if percent
        else ""
    )
    return "".join(
        [
            f'<g class="{"idle" if block.is_idle else "block"}">',
            f"<title>{_text(_all_of(block, network))}</title>",
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" '
            f'rx="{corner}"/>',
            _bar(box, share, hues.get(_part_of(block), "var(--line)")),
            f'<text class="name" x="{x + 14:g}" y="{y + 20:g}">'
            f"{_text(_fitting(block.name, WIDTH - 70, 13))}</text>",
            figures,
            *_details(block, x, y),
            "</g>",
        ]
    )


def _bar(box: Box, share: float | None, colour: str) -> str:
    """The share of a box, as a part of its lower side."""
    if not share:
        return ""
    return (
        f'<rect x="{box.x + 14:g}" y="{box.y + HEIGHT - 6:g}" '
        f'width="{share * (WIDTH - 28):.1f}" height="3" fill="{colour}"/>'
    )


def _details(block: Block, x: float, y: float) -> tuple[str, str]:
    """The two lines below the name."""
    first, second = block.detail, figures_of(block)
    if block.role == TERMINAL:
        lines = wrap(first, int((WIDTH - 30) / (11 * _LETTER)))
        first, second = " ".join(lines[:1]), " ".join(lines[1:])
    return _line_of(first, x, y + 36), _line_of(second, x, y + 51)


def _line_of(text: str, x: float, y: float) -> str:
    shown = _fitting(text, WIDTH - 22, 11)
    return f'<text class="soft" x="{x + 14:g}" y="{y:g}">{_text(shown)}</text>' if shown else ""


def _all_of(block: Block, network: Network) -> str:
    told = [f"{block.name}: {block.detail}" if block.detail else block.name]
    if block.path:
        told.append(f"module {block.path}")
    if block.weights:
        told.append(f"{block.weights:,} weights")
    if block.multiply_adds:
        told.append(f"{block.multiply_adds:,} multiply-adds on the sample")
    share = share_of(block, network)
    if share is not None:
        told.append(f"{share:.1%} of {network.shared}")
    return "\n".join(told)


def _fitting(text: str, width: float, size: float) -> str:
    most = int(width / (size * _LETTER))
    return text if len(text) <= most else text[: most - 1] + "…"


def _text(text: str) -> str:
    return escape(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text))
