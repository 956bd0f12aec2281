"""Errors of the export, each a sentence that says what was wrong and what to do.

::

    ExportError
    ├── ConfigError           the config or an option cannot be used, or a package is missing
    ├── UnsupportedFamily     what the config describes cannot be exported yet
    ├── WeightsError          the weights cannot be had, or do not fit the config
    ├── SampleError           the sample image cannot be read, or the model finds nothing in it
    ├── EagerError            eager detectron2 itself cannot run the model on an image
    ├── ProgramError          TorchScript or ONNX refused the model
    ├── VerificationError     the program does not give detectron2's answer; nothing is written
    ├── ArchiveError          the archive cannot be written or read
    ├── EvaluationError       the data set cannot be evaluated
    └── PrecisionError        a lower precision costs more AP than is allowed
"""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_OF_TORCH = re.compile(r"[/\\]site-packages[/\\](?:torch|torchvision|fvcore)[/\\]|^<")


class ExportError(Exception):
    """Everything this room raises on purpose."""


class ConfigError(ExportError):
    """The config or an option cannot be used, or a package that it needs is missing."""


class UnsupportedFamily(ExportError):
    """The config describes a model that cannot be exported yet; said before any work."""


class WeightsError(ExportError):
    """The weights cannot be had, or do not fit the model of the config."""


class SampleError(ExportError):
    """The sample image cannot be read, or the model finds nothing in it."""


class EagerError(ExportError):
    """Eager detectron2 itself cannot run the model on an image, so no answer can be reproduced."""


class ProgramError(ExportError):
    """TorchScript or ONNX refused the model, or the program cannot move to another device."""


class VerificationError(ExportError):
    """The program's answer is not detectron2's."""


class ArchiveError(ExportError):
    """The archive cannot be written, or is not one of ours."""


class EvaluationError(ExportError):
    """The data set cannot be evaluated."""


class PrecisionError(ExportError):
    """A lower precision costs more AP than is allowed, or cannot be made."""


@contextmanager
def needing(package: str, extra: str) -> Iterator[None]:
    """Say which extra of d2serve brings a package that cannot be imported.

    Raises:
        ConfigError: in place of the ImportError.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"This export needs {package}, which cannot be imported ({error}). "
            f"Install it: pip install 'd2serve[{extra}]'"
        ) from error


def one_line(error: BaseException, limit: int = 400) -> str:
    """An exception's text on one line, for use inside a message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[:limit] + "..."


def place_in_traceback(error: BaseException) -> str:
    """``, at FILE:LINE`` of the innermost line that is not torch's own, for inside a message."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [each for each in frames if not _OF_TORCH.search(each.filename)]
    last = (outside or list(frames))[-1:]
    return f", at {last[0].filename}:{last[0].lineno}" if last else ""


def place_of(thing: Callable[..., object]) -> str:
    """``FILE:LINE`` where a function or class is defined, for use inside a message."""
    thing = inspect.unwrap(thing)
    _lines, number = inspect.getsourcelines(thing)
    return f"{inspect.getsourcefile(thing)}:{number}"
