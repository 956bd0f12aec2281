"""The picture that an export writes into its archive."""

from __future__ import annotations

from torch import nn

from d2serve.export.errors import one_line
from d2serve.export.picture.from_model import from_model
from d2serve.export.picture.readers.recording import Given
from d2serve.export.picture.svg import svg_of
from d2serve.export.picture.words import about_model


def picture_of(
    model: nn.Module, given: Given, name: str, family: str
) -> tuple[str | None, str | None]:
    """An eager model's picture, as the text of an SVG file, and otherwise why there is none.

    It has no times, which no two exports measure alike. An archive is worth having without it, so
    nothing that a model's own code does while it is watched stops an export.

    Args:
        model: eager, in evaluation mode.
        given: the dict of the sample, as DefaultPredictor gives it to the model.
        name: the archive's.
        family: what the model is.
    """
    about = about_model(family, int(given["height"]), int(given["width"]))
    try:
        return svg_of(from_model(model, given, name, about)), None
    except Exception as error:
        return None, (
            "The archive has no picture of the network: the model cannot be watched while it runs "
            f"({type(error).__name__}: {one_line(error, 160)}). All else is as usual."
        )
