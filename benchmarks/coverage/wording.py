"""Figures and messages, short enough for a table and without anything of the machine."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import detectron2

_SITE = Path(detectron2.__file__).resolve().parent.parent
_ROOT = Path(__file__).resolve().parent.parent.parent
_LONGEST_REASON = 60
# What the verdict of a cell says already.
_PREFACE = re.compile(
    r"^(detectron2 cannot build the model of this config \(|"
    r"The model cannot be (traced|scripted|exported to ONNX): |"
    r"(\S+|The model) \(\w+\) cannot be exported for \w+: \S+: )"
)


def without_paths(text: str) -> str:
    """A message with files named from their package on."""
    for folder in (_SITE, _ROOT, _SITE.parent, Path(tempfile.gettempdir())):
        text = text.replace(f"{folder}/", "")
    return text


def power(value: float) -> str:
    """A small figure as ``2e-4``; 0 as it is."""
    if value == 0:
        return "0"
    if value >= 0.1:
        return f"{value:.2g}"
    return re.sub(r"e-0?", "e-", f"{value:.0e}")


def in_short(message: str) -> str:
    """The first clause of a message, for a cell; the whole stands below the table."""
    message = _PREFACE.sub("", message)
    first = re.split(r"[:;,()]|\. ", message, maxsplit=1)[0].strip()
    return first if len(first) <= _LONGEST_REASON else first[:_LONGEST_REASON] + "..."
