"""Why: a checkpoint is a pickle, and a pickle runs code when it is read.

torch's own files are read with ``weights_only``; the model zoo's ``.pkl`` files, dicts of numpy
arrays, with an unpickler that knows nothing else. What holds more is read when the user says so.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any, BinaryIO

import torch

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


# docs/security.md names what the versions before it, and up to 2.9, leave open.
_TELLS_TENSORS_FROM_CODE = (2, 6)

# How torch's reader, or ours, says that a file holds more than it may.
_MORE = re.compile(r"(?i)unsupported (global|class)|it holds")


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, not only numpy arrays")
        return super().find_class(module, name)


def read_arrays(file: BinaryIO, name: str) -> Any:
    """Unpickle a ``.pkl`` file of numpy arrays and nothing else.

    Raises:
        WeightsError: it holds more.
    """
    return _reading(name, lambda: _ArraysOnly(file, encoding="latin1").load())


def read_tensors(file: BinaryIO, name: str) -> Any:
    """Read a torch checkpoint of tensors and nothing else, onto the CPU.

    Raises:
        WeightsError: it holds more, or this torch cannot tell.
    """
    installed = tuple(int(each) for each in re.findall(r"\d+", torch.__version__)[:2])
    if installed < _TELLS_TENSORS_FROM_CODE:
        raise WeightsError(
            f"{name} is a torch checkpoint, and torch {torch.__version__} runs code that one holds "
            "even where it is to read tensors only (CVE-2025-32434). If you trust whoever made it, "
            "add --trust-weights; else export with torch 2.10 or newer."
        )
    return _reading(name, lambda: torch.load(file, map_location="cpu", weights_only=True))


def _reading(name: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except pickle.UnpicklingError as error:
        if not _MORE.search(str(error)):  # no checkpoint at all, or a damaged one
            raise
        raise WeightsError(
            f"{name} holds more than tensors ({one_line(error, 200)}). Reading the rest runs code "
            "that the file brings. If you trust whoever made it, add --trust-weights; else ask for "
            "the state_dict alone."
        ) from error
