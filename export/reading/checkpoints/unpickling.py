"""Reads checkpoint files without running the code that they may bring.

A checkpoint is a pickle, and a pickle runs code when it is read. So files of torch are read with
``weights_only``, and other pickles, such as the model zoo's ``.pkl`` files, with an unpickler that
knows arrays only. ``.safetensors`` hold no pickle. A file that holds more is read only when the
user trusts it.

Every weights file of an export is read here, once, and nowhere else: what was checked is what is
loaded.
"""

from __future__ import annotations

import io
import json
import pickle
import re
from typing import Any, BinaryIO

import torch
from detectron2.utils.file_io import PathManager

from d2serve.export.errors import ExportError, WeightsError, needing
from d2serve.export.reading.checkpoints.harmless import OF_NUMPY, STAND_INS
from d2serve.export.reading.checkpoints.kinds import OLD_TORCH, PICKLE, SAFETENSORS, ZIP, kind_of

# What a dict of numpy arrays, or of tensors, is made of beside the stand-ins.
_KNOWN = {
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("_codecs", "encode"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
}

# The first torch whose weights_only runs no code at all (CVE-2025-32434). docs/security.md names
# what the versions from it up to 2.9 leave open.
_SAFE_FROM = (2, 6)

# How torch's reader, or ours, says what a file holds that it may not.
_FORBIDDEN = re.compile(
    r"(?i)(?:unsupported global:?(?: GLOBAL)?|it holds|new object for .*? but got <class '|"
    r"unrecognized function <(?:class|function|built-in function) '?|"
    r"allowlisted via `add_safe_globals`, but got <class '|unsupported class <class ')\s*"
    r"(?P<name>[\w.]+)"
)
_PROTOCOL = re.compile(r"Unsupported operand (?:149|140|141|142|147|148)\b")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_REASON = re.compile(r"WeightsUnpickler error: (.*?)(?:\. Please use|\.?\s*(?:\n|$))", re.DOTALL)


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        stand_in = STAND_INS.get(f"{module}.{name}")
        if stand_in is not None:
            return stand_in
        if (module, name) == ("torch.storage", "_load_from_bytes"):  # of tensors that were pickled
            return _storage
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


def _storage(content: bytes) -> Any:
    return _read_torch(io.BytesIO(content), "A part of it")


def read_checkpoint(path: str, *, trusted: bool) -> Any:
    """Read a weights file onto the CPU, as its first bytes say.

    Args:
        path: a file on this machine.
        trusted: whether to run what the file brings beside tensors and arrays.

    Raises:
        WeightsError: it is no checkpoint or damaged, it holds more and is not trusted, or this
            torch cannot read it safely.
    """
    with PathManager.open(path, "rb") as file:
        kind, problem = kind_of(file, path)
        if problem is not None:
            raise WeightsError(
                f"{path} {problem}. Expected the weights that training wrote, such as "
                "model_final.pth."
            )
        try:
            if kind == SAFETENSORS:
                return _read_safetensors(file.read())
            return _read_all(file, kind, path) if trusted else _read_data(file, kind, path)
        except ExportError:
            raise
        except Exception as error:  # a damaged pickle raises nearly anything
            raise _refusal(path, error, trusted) from error


def _refusal(path: str, error: Exception, trusted: bool) -> WeightsError:
    text = _COLOURS.sub("", str(error))
    forbidden = None if trusted else _FORBIDDEN.search(text)
    if forbidden is not None:
        return WeightsError(
            f"{path} holds more than tensors ({forbidden['name']}). Reading the rest would run "
            "code that the file brings. If you trust whoever made it, add --trust-weights; "
            "otherwise ask for the state_dict alone."
        )
    if not trusted and _PROTOCOL.search(text):
        return WeightsError(
            f"{path} was pickled in a newer form than torch reads without running code. Where it "
            "was made, save it as torch does by default: torch.save(state_dict, file). If you "
            "trust whoever made it, add --trust-weights."
        )
    missing = isinstance(error, (ImportError, AttributeError)) and trusted
    if missing:
        return WeightsError(
            f"{path} needs code that is not here ({_short(text)}): run from where that is "
            "installed, or ask for the state_dict alone."
        )
    reason = _REASON.search(text)
    return WeightsError(
        f"{path} cannot be loaded: it is damaged, not downloaded whole, or no checkpoint "
        f"({type(error).__name__}: {_short(reason[1] if reason else text)}). Fetch it again and "
        "compare the sizes. Expected the weights that training wrote, such as model_final.pth."
    )


def _short(text: str) -> str:
    # torch goes on with advice of its own, which would run what the file brings.
    own = re.split(r"Please|To do so|you can|Do it only|weights_only|Check ", text)[0]
    text = " ".join(own.split())
    return (text if len(text) <= 160 else f"{text[:160]}...") or "it ends early"


def _read_all(file: BinaryIO, kind: str | None, path: str) -> Any:
    if kind == PICKLE or (kind is None and path.endswith(".pkl")):
        return pickle.load(file, encoding="latin1")
    return torch.load(file, map_location="cpu", weights_only=False)


def _read_data(file: BinaryIO, kind: str | None, path: str) -> Any:
    if kind not in (ZIP, OLD_TORCH):
        return _ArraysOnly(file, encoding="latin1").load()
    return _read_torch(file, path)


def _read_torch(file: BinaryIO, path: str) -> Any:
    installed = tuple(int(each) for each in re.findall(r"\d+", torch.__version__)[:2])
    if installed < _SAFE_FROM:
        raise WeightsError(
            f"{path} is a torch checkpoint, and torch {torch.__version__} runs code that a "
            "checkpoint holds even when it is told to read tensors only (CVE-2025-32434). If you "
            "trust whoever made it, add --trust-weights; otherwise export with torch 2.10 or newer."
        )
    with torch.serialization.safe_globals([*STAND_INS.values(), *OF_NUMPY]):
        return torch.load(file, map_location="cpu", weights_only=True)


def _read_safetensors(content: bytes) -> dict[str, Any]:
    """Tensors by name, below ``"model"``, and the file's own metadata beside them."""
    with needing("safetensors", "export"):
        from safetensors.torch import load
    tensors: dict[str, Any] = load(content)
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    return {"model": tensors, **({"metadata": metadata} if metadata else {})}
