"""Reads checkpoint files without running the code that they may bring.

A checkpoint is a pickle, and a pickle runs code when it is read. So files of torch are read with
``weights_only``, and the model zoo's ``.pkl`` files, dicts of numpy arrays, with an unpickler that
knows nothing else. A file that holds more is read only when the user trusts it.

Every weights file of an export is read here, once, and nowhere else: what was checked is what is
loaded.
"""

from __future__ import annotations

import pickle
import re
from typing import Any, BinaryIO

import torch
from detectron2.utils.file_io import PathManager

from d2serve.export.errors import WeightsError, one_line

# What a dict of numpy arrays is made of; numpy 2 moved its core.
_KNOWN = {
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *(
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ),
    ("_codecs", "encode"),
}

# The first torch whose weights_only runs no code at all (CVE-2025-32434). docs/security.md names
# what the versions from it up to 2.9 leave open.
_SAFE_FROM = (2, 6)

# How torch's reader, or ours, says what a file holds that it may not.
_FORBIDDEN = re.compile(
    r"(?i)(?:unsupported global:?(?: GLOBAL)?|it holds) (?P<name>[\w.]+)"
    r"|unsupported class|cannot use `*weights_only"
)


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


def read_checkpoint(path: str, *, trusted: bool) -> Any:
    """Read a weights file onto the CPU: a pickle where it ends in ``.pkl``, otherwise torch's.

    Args:
        path: a file on this machine.
        trusted: whether to run what the file brings beside tensors and arrays.

    Raises:
        WeightsError: it holds more and is not trusted, or this torch cannot read it safely.
    """
    with PathManager.open(path, "rb") as file:
        if trusted:
            return _read_all(file, path)
        try:
            return _read_data(file, path)
        except (pickle.UnpicklingError, RuntimeError) as error:
            forbidden = _FORBIDDEN.search(str(error))
            if forbidden is None:  # no checkpoint at all, or a damaged one
                raise
            what = forbidden["name"] or one_line(error, 200)
            raise WeightsError(
                f"{path} holds more than tensors ({what}). Reading the rest would run code that "
                "the file brings. If you trust whoever made it, add --trust-weights; otherwise ask "
                "for the state_dict alone."
            ) from error


def _read_all(file: BinaryIO, path: str) -> Any:
    if path.endswith(".pkl"):
        return pickle.load(file, encoding="latin1")
    return torch.load(file, map_location="cpu", weights_only=False)


def _read_data(file: BinaryIO, path: str) -> Any:
    if path.endswith(".pkl"):
        return _ArraysOnly(file, encoding="latin1").load()
    installed = tuple(int(each) for each in re.findall(r"\d+", torch.__version__)[:2])
    if installed < _SAFE_FROM:
        raise WeightsError(
            f"{path} is a torch checkpoint, and torch {torch.__version__} runs code that a "
            "checkpoint holds even when it is told to read tensors only (CVE-2025-32434). If you "
            "trust whoever made it, add --trust-weights; otherwise export with torch 2.10 or newer."
        )
    return torch.load(file, map_location="cpu", weights_only=True)
