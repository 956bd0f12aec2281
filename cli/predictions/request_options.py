"""The options of a request, as commands that ask a model take them.

Their help is derived from the table of the handlers, and a test holds their names and words to it.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Optional

import typer

from d2serve.client.predict.options import PredictOptions
from d2serve.handlers.requests.options import OPTIONS, Option


class MaskFormat(str, Enum):
    """The values of the request option ``masks``."""

    RLE = "rle"
    POLYGON = "polygon"
    NONE = "none"


class SemSegFormat(str, Enum):
    """The values of the request option ``sem_seg``."""

    PNG = "png"
    RLE = "rle"


class ExtraFormat(str, Enum):
    """The values of the request option ``extra``."""

    JSON = "json"
    BASE64 = "base64"
    NONE = "none"


def _help_of(option: Option) -> str:
    """What the command line says of a request option, in the words of the server's own table."""
    if option.type is list:
        return f"{option.help} A name or id; give the option again for another. Default: all."
    values = f"{option.help} Values: {option.allowed}"
    return f"{values}." if option.choices else f"{values}; default: {option.default}."


_HELP = {option.name: _help_of(option) for option in OPTIONS}

ScoreThresh = Annotated[Optional[float], typer.Option(help=_HELP["score_thresh"])]
MaxDetections = Annotated[Optional[int], typer.Option(help=_HELP["max_detections"])]
Classes = Annotated[Optional[list[str]], typer.Option(help=_HELP["classes"])]
Masks = Annotated[MaskFormat, typer.Option(help=_HELP["masks"])]
SemSeg = Annotated[SemSegFormat, typer.Option(help=_HELP["sem_seg"])]
Extra = Annotated[ExtraFormat, typer.Option(help=_HELP["extra"])]


def request_options(
    score_thresh: float | None,
    max_detections: int | None,
    classes: list[str] | None,
    masks: MaskFormat,
    sem_seg: SemSegFormat,
    extra: ExtraFormat,
) -> PredictOptions:
    """What every client takes, of what the command line said."""
    return {
        "score_thresh": score_thresh,
        "max_detections": max_detections,
        "classes": classes or None,
        "masks": masks.value,
        "sem_seg": sem_seg.value,
        "extra": extra.value,
    }
