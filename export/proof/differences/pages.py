"""The picture of what differs in an image: the whole of it, its greatest difference, and a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image, ImageDraw, ImageFont

from d2serve.export.proof.differences.finding import Finding
from d2serve.export.proof.differences.panels import ARCHIVE, BOTH, EAGER, Subject, panels_of
from d2serve.export.proof.differences.views import Window

_ACROSS = 560
"""Width of each of the three pictures, in pixels."""
_MOST_DOWN = 900
_ZOOMED_DOWN = 420
_GAP = 10
_LINE = 22
_MOST_LINES = 8
_GROUND, _INK, _FAINT = (28, 28, 30), (240, 240, 240), (170, 170, 170)
_TITLES = ("eager detectron2", "the archive", "where they differ")


def page_of(image: str, verdict: str, subject: Subject) -> Image.Image:
    """The picture of what differs in an image.

    Args:
        image: its name.
        verdict: the whole difference in a sentence.
        subject: the answers and what differs.
    """
    height, width = subject.pixels.shape[:2]
    shown = replace(subject, findings=subject.findings[:_MOST_LINES])
    across = max(80, min(_ACROSS, round(_MOST_DOWN * width / height)))
    rows = [panels_of(shown, Window.whole(width, height, across))]
    titles = [f"the whole image, {width} x {height}"]
    if shown.findings:
        first = shown.findings[0]
        down = min(_ZOOMED_DOWN, rows[0][0].height)
        window = Window.around(first.region, (width, height), (across, down))
        rows.append(panels_of(shown, window))
        titles.append(f"1 enlarged {window.scale:.3g} times: {first.text}")
    more = len(subject.findings) - len(shown.findings)
    return _composed(f"{image}: {verdict}", rows, titles, _lines(shown.findings, more))


def _lines(findings: Sequence[Finding], more: int) -> list[str]:
    lines = [
        f"{number}  {each.text}{'' if each.differs else ' (within bounds)'}"
        for number, each in enumerate(findings, 1)
    ]
    return [*lines, f"and {more:,} more"] if more > 0 else lines


def _composed(
    title: str,
    rows: list[tuple[Image.Image, Image.Image, Image.Image]],
    titles: list[str],
    lines: list[str],
) -> Image.Image:
    width = max(3 * row[0].width + 4 * _GAP for row in rows)
    font, large = ImageFont.load_default(14), ImageFont.load_default(17)
    width = max(width, 700)
    heading = _wrapped(title, large, width - 2 * _GAP)
    under = [part for line in lines for part in _wrapped(line, font, width - 2 * _GAP)]
    captions = [_wrapped(each, font, width - 2 * _GAP)[0] for each in titles]
    height = _GAP + _LINE * (len(heading) + len(under) + 1 + len(rows)) + 2 * _GAP
    height += sum(row[0].height + _GAP for row in rows)
    page = Image.new("RGB", (width, height), _GROUND)
    draw = ImageDraw.Draw(page)
    y = _GAP
    for line in heading:
        draw.text((_GAP, y), line, fill=_INK, font=large)
        y += _LINE
    step = rows[0][0].width + _GAP
    for index, (text, colour) in enumerate(zip(_TITLES, (EAGER, ARCHIVE, BOTH))):
        draw.text((_GAP + index * step, y), text, fill=colour, font=font)
    y += _LINE
    for row, caption in zip(rows, captions):
        for index, panel in enumerate(row):
            page.paste(panel, (_GAP + index * step, y))
        y += row[0].height + 2
        draw.text((_GAP, y), caption, fill=_FAINT, font=font)
        y += _LINE + _GAP - 2
    for line in under:
        draw.text((_GAP, y), line, fill=_INK, font=font)
        y += _LINE
    return page


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, most: int) -> list[str]:
    """Lines of at most so many pixels; what Pillow's own font cannot write becomes "?"."""
    lines = [""]
    for word in text.encode("ascii", "replace").decode().split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > most:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
