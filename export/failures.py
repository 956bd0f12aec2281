"""Keeps a terminal free of what torch prints when it fails: all goes into a log that is named.

torch's exporters print graphs of thousands of lines, and say in pages what one line is about. An
error says that line: the place in the model, what was wrong, and where the rest stands.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import ParamSpec, TypeVar

from d2serve.export.errors import ExportError

P = ParamSpec("P")
R = TypeVar("R")

_INTERNAL = re.compile(
    r".*?INTERNAL ASSERT FAILED at [^,]*, please report a bug to PyTorch\.?\s*", re.DOTALL
)
_SOURCE_FOLLOWS = re.compile(r'\s*:?\s*(?:File "|The above operation|Arguments for call|\n\s*\n)')
_PYTHONS = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
_PACKAGES = ("site-packages", "dist-packages")
# Whose frames are not the model's.
_EXPORTERS = re.compile(
    r"[/\\](?:site|dist)-packages[/\\](?:torch|torchvision|onnx|onnxruntime|openvino)[/\\]"
)
_OURS = str(Path(__file__).parent)


def in_short(error: BaseException, limit: int = 200) -> str:
    """What an error of torch's says, on one line: without graphs, sources and asserts."""
    text = str(error).strip()
    if "INTERNAL ASSERT" in text:
        text = _INTERNAL.sub("", text, count=1).strip()
        text = text or "it fails inside itself"
    text = _SOURCE_FOLLOWS.split(text, maxsplit=1)[0]
    text = " ".join(text.split()).rstrip(" .:") or type(error).__name__
    return text if len(text) <= limit else text[:limit] + "..."


def line_of(error: BaseException) -> str:
    """``"FILE:LINE in FUNCTION"`` of the model's line in a traceback, or ``""``.

    The user's own code comes before detectron2's, and the innermost line of either counts.
    """
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not _EXPORTERS.search(frame.filename) and not frame.filename.startswith(("<", _OURS))
    ]
    packaged = [f for f in frames if any(name in f.filename for name in _PACKAGES)]
    own = [f for f in frames if f not in packaged and not f.filename.startswith(_PYTHONS)]
    for found in (own, packaged):
        if found:
            return f"{found[-1].filename}:{found[-1].lineno} in {found[-1].name}"
    return ""


def logged(error: BaseException, printed: str = "") -> Path:
    """Write all that is known of a failure to a file, and say which."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="d2serve-", suffix=".log", delete=False, encoding="utf-8", errors="replace"
    ) as log:
        log.writelines(traceback.format_exception(error))
        if printed:
            log.write(f"\nPrinted meanwhile:\n{printed}")
    return Path(log.name)


@contextmanager
def nothing_printed() -> Iterator[Callable[[], str]]:
    """Catch what Python and native code print within; the value reads what it was."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as caught:
        before = sys.stdout, sys.stderr
        descriptors = {number: os.dup(number) for number in (1, 2)}

        def printed() -> str:
            caught.flush()
            caught.seek(0)
            text = caught.read()
            caught.seek(0, os.SEEK_END)
            return text

        for each in before:
            each.flush()
        try:
            for number in descriptors:
                os.dup2(caught.fileno(), number)
            sys.stdout = sys.stderr = caught
            yield printed
        finally:
            sys.stdout, sys.stderr = before
            caught.flush()
            for number, real in descriptors.items():
                os.dup2(real, number)
                os.close(real)


def imported(package: str) -> ModuleType:
    """Import what runs a program, without what it prints.

    TensorFlow writes to the standard error when it is imported, whatever its logging is set to. And
    torch's compiler, triton, ends the process when it is imported after TensorFlow, since both
    carry an LLVM: so it comes first.

    Raises:
        ImportError: it is not installed, or cannot be imported.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with nothing_printed():
        with suppress(ImportError):
            import triton  # noqa: F401
        return import_module(package)


def in_a_sentence(work: Callable[P, R]) -> Callable[P, R]:
    """Let whatever a function raises without meaning to become an ExportError with a log."""

    @wraps(work)
    def guarded(*args: P.args, **keywords: P.kwargs) -> R:
        try:
            return work(*args, **keywords)
        except ExportError:
            raise
        except Exception as error:
            place = line_of(error)
            raise ExportError(
                f"{type(error).__name__}{f' at {place}' if place else ''}: {in_short(error)}. "
                "That is unexpected: where the line is your model's, make eager detectron2 answer "
                f"with it first; else report it, with the traceback in {logged(error)}"
            ) from error

    return guarded
