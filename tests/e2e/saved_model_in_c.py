"""Answers an array with a SavedModel by TensorFlow's C library, as TensorFlow Serving loads it.

``python saved_model_in_c.py FOLDER ARRAY.npy INPUT ANSWERS.npz NAME=TENSOR ...`` imports no module
of TensorFlow. TF_LoadSessionFromSavedModel is the C++ LoadSavedModel that the server calls; the C
interface is described in tensorflow/c/c_api.h.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import sys
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

_TYPES = {1: np.float32, 3: np.int32, 9: np.int64, 10: np.bool_}


class _Output(ctypes.Structure):
    """A tensor in a graph: TF_Output."""

    _fields_ = (("operation", c_void_p), ("index", c_int))


def _library() -> Any:
    found = importlib.util.find_spec("tensorflow")
    assert found is not None
    assert found.submodule_search_locations
    folder = Path(next(iter(found.submodule_search_locations)))
    framework = folder / "libtensorflow_framework.so.2"
    ctypes.CDLL(str(framework), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"))
    for name in ("NewStatus", "NewGraph", "NewSessionOptions", "AllocateTensor", "TensorData"):
        getattr(library, f"TF_{name}").restype = c_void_p
    library.TF_LoadSessionFromSavedModel.restype = c_void_p
    library.TF_GraphOperationByName.restype = c_void_p
    library.TF_Message.restype = c_char_p
    library.TF_Dim.restype = c_int64
    library.TF_TensorByteSize.restype = c_size_t
    return library


class _SavedModel:
    def __init__(self, folder: str) -> None:
        self._tf = _library()
        self._status = c_void_p(self._tf.TF_NewStatus())
        self._graph = c_void_p(self._tf.TF_NewGraph())
        options = c_void_p(self._tf.TF_NewSessionOptions())
        tags = (c_char_p * 1)(b"serve")
        self._session = c_void_p(
            self._tf.TF_LoadSessionFromSavedModel(
                options, None, folder.encode(), tags, 1, self._graph, None, self._status
            )
        )
        self._check()

    def __call__(self, image: Any, given: str, wanted: list[str]) -> list[Any]:
        sides = (c_int64 * image.ndim)(*image.shape)
        tensor = c_void_p(self._tf.TF_AllocateTensor(1, sides, image.ndim, c_size_t(image.nbytes)))
        data = c_void_p(self._tf.TF_TensorData(tensor))
        ctypes.memmove(data, image.ctypes.data, image.nbytes)
        inputs, tensors = (_Output * 1)(self._place(given)), (c_void_p * 1)(tensor)
        outputs = (_Output * len(wanted))(*map(self._place, wanted))
        answers = (c_void_p * len(wanted))()
        self._tf.TF_SessionRun(
            *(self._session, None, inputs, tensors, 1, outputs, answers, len(wanted)),
            *(None, 0, None, self._status),
        )
        self._check()
        return [self._array(c_void_p(each)) for each in answers]

    def _place(self, name: str) -> _Output:
        operation, _, index = name.partition(":")
        found = self._tf.TF_GraphOperationByName(self._graph, operation.encode())
        assert found, name
        return _Output(found, int(index))

    def _array(self, tensor: c_void_p) -> Any:
        shape = [self._tf.TF_Dim(tensor, axis) for axis in range(self._tf.TF_NumDims(tensor))]
        kind = np.dtype(_TYPES[self._tf.TF_TensorType(tensor)])
        size = self._tf.TF_TensorByteSize(tensor)
        assert size == math.prod(shape) * kind.itemsize
        content = ctypes.string_at(self._tf.TF_TensorData(tensor), size) if size else b""
        return np.frombuffer(content, kind).reshape(shape)

    def _check(self) -> None:
        if self._tf.TF_GetCode(self._status):
            raise SystemExit(self._tf.TF_Message(self._status).decode())


def main(folder: str, array: str, given: str, answers: str, *named: str) -> None:
    """Write what the program answers, by name."""
    names, tensors = zip(*(each.split("=") for each in named))
    image = np.ascontiguousarray(np.load(array), np.float32)
    found = _SavedModel(folder)(image, given, list(tensors))
    np.savez(answers, **dict(zip(names, found)))
    assert not {name for name in sys.modules if name.split(".")[0] in ("tensorflow", "d2serve")}
    sys.stdout.write("answered\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
