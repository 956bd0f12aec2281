"""Transformed weights in files beside a program, which the workers of a machine map and share.

They are several times the size of the plain ones. In private memory each worker would hold its own;
of a mapped file there is one copy for all of them. A file is named for what it holds, so it can be
neither another layer's nor of another build of the native code. It goes with the program's folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from d2serve.kernels.library import VERSION
from d2serve.kernels.winograd import transform, transformed_size

FOLDER = "winograd"
"""Beside the program."""

_log = logging.getLogger(__name__)


def transformed(weights: NDArray[np.float32], beside: Path | None) -> NDArray[np.float32]:
    """What ``transform`` makes of weights, from a file that is made where it is missing.

    Args:
        weights: (outs, ins, 3, 3).
        beside: folder of the program. None, and a folder that cannot be written to, leave them in
            this process's own memory.
    """
    if beside is None:
        return transform(weights)
    content = hashlib.sha256(repr(weights.shape).encode())
    content.update(np.ascontiguousarray(weights).data)
    file = beside / FOLDER / f"{content.hexdigest()[:32]}-{VERSION}.npy"
    size = transformed_size(*weights.shape[:2])
    try:
        return _mapped(file, size)
    except (OSError, ValueError, EOFError):  # not there yet, or damaged
        made = transform(weights)
    try:
        _write(file, made)
        return _mapped(file, size)
    except (OSError, ValueError) as error:
        _log.warning(
            "Transformed weights cannot be shared through %s (%s): each worker holds its own.",
            file.parent,
            getattr(error, "strerror", None) or error,
        )
        return made


def _mapped(file: Path, size: int) -> NDArray[np.float32]:
    found: NDArray[np.float32] = np.load(file, mmap_mode="r")
    if found.shape != (size,):
        raise ValueError(f"{file} holds {found.shape}, expected {(size,)}")
    return found


def _write(file: Path, made: NDArray[np.float32]) -> None:
    """All or nothing: other workers start at the same time, and write the same."""
    file.parent.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as part:
            np.save(part, made)
        Path(name).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
