"""Why: a user's mistake must read as a sentence that says what to do, not as a traceback.

::

    ExportError
    ├── ConfigError           the config cannot be read, or an override does not fit it
    ├── UnsupportedFamily     what the config describes cannot be exported yet
    ├── WeightsError          the weights cannot be had, or do not fit the config
    ├── SampleError           the sample image proves nothing for this model
    ├── ProgramError          TorchScript refused the model
    ├── VerificationError     the program does not give detectron2's answer; nothing is written
    ├── ArchiveError          the archive cannot be written or read
    └── EvaluationError       the data set cannot be evaluated
"""

from __future__ import annotations


class ExportError(Exception):
    """Everything this room raises on purpose."""


class ConfigError(ExportError):
    """The config file cannot be read, or an override does not fit it."""


class UnsupportedFamily(ExportError):
    """The config describes a model that cannot be exported yet; said before any work."""


class WeightsError(ExportError):
    """The weights cannot be had, or do not fit the model of the config."""


class SampleError(ExportError):
    """The sample image cannot be read, or the model finds nothing in it."""


class ProgramError(ExportError):
    """TorchScript refused the model, or what it made cannot be moved to another device."""


class VerificationError(ExportError):
    """The program's answer is not detectron2's."""


class ArchiveError(ExportError):
    """The archive cannot be written, or is not one of ours."""


class EvaluationError(ExportError):
    """The data set cannot be evaluated."""


def one_line(error: BaseException, limit: int = 400) -> str:
    """An exception's text on one line, for use inside a message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[:limit] + "..."
