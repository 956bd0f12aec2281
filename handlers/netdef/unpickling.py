"""Reads what ``torch.save`` made of an anchor generator, and nothing that it does not need.

RetinaNet's ``model.pb`` holds a pickle, and a pickle can call whatever Python can import. This one
knows the few names below, for which it makes records of its own; it refuses every other name before
anything is called, and every instruction of pickle that such a file does without. Both forms that
``torch.save`` has had are read: the zip, and what it wrote before PyTorch 1.6.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""A pickle of the number by which ``torch.save`` marked its files."""

_INSTRUCTIONS = frozenset(
    """
    PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE
    SHORT_BINUNICODE EMPTY_DICT EMPTY_LIST EMPTY_TUPLE EMPTY_SET SETITEM SETITEMS APPEND APPENDS
    ADDITEMS TUPLE TUPLE1 TUPLE2 TUPLE3 BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL
    STACK_GLOBAL REDUCE NEWOBJ BUILD BINPERSID
    """.split()  # noqa: SIM905 (a list of them would take a line each)
)


class UnpicklingRefused(ValueError):
    """The pickle is damaged, or holds what an anchor generator does not need."""


class Storage:
    """The numbers of tensors, float32, which may be read after the tensors are."""

    def __init__(self) -> None:
        self.numbers = np.zeros(0, np.float32)

    def tensor(self, offset: int, size: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """A contiguous tensor of them."""
        count = math.prod(size)
        if offset < 0 or min(size, default=0) < 0 or offset + count > len(self.numbers):
            raise UnpicklingRefused(f"a tensor of shape {size} has {len(self.numbers)} numbers")
        return self.numbers[offset : offset + count].reshape(size)


class Module:
    """A stand-in for a module of detectron2: its attributes only."""


def read_saved(data: bytes, modules: Mapping[str, frozenset[str]]) -> Any:
    """What ``torch.save`` made: instances of ``Module``, containers, numbers, and tensors.

    A tensor is a function without arguments, which gives the array once all is read.

    Args:
        data: the bytes.
        modules: by Python module, names of the classes for which a ``Module`` stands.

    Raises:
        UnpicklingRefused: see there.
    """
    try:
        if data.startswith(_LEGACY_START):
            return _legacy(data, modules)
        return _zipped(data, modules)
    except UnpicklingRefused:
        raise
    # A damaged pickle can end in any of these, each from the unpickler's own depths.
    except (
        *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, ArithmeticError),
        *(AttributeError, EOFError, LookupError, MemoryError, NotImplementedError),
        *(RecursionError, TypeError, ValueError),
    ) as error:
        raise UnpicklingRefused(f"it is damaged: {error}") from None


def _zipped(data: bytes, modules: Mapping[str, frozenset[str]]) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {each.filename.partition("/")[2]: each for each in archive.infolist()}
        packed = [name for name, each in entries.items() if each.compress_type]
        if packed or "data.pkl" not in entries:
            raise UnpicklingRefused("it is no file of torch.save")
        storages: dict[str, Storage] = {}
        found = _unpickled(io.BytesIO(archive.read(entries["data.pkl"])), modules, storages)
        for key, storage in storages.items():
            storage.numbers = np.frombuffer(archive.read(entries[f"data/{key}"]), "<f4")
    return found


def _legacy(data: bytes, modules: Mapping[str, frozenset[str]]) -> Any:
    stream = io.BytesIO(data)
    storages: dict[str, Storage] = {}
    for _ in range(3):  # the mark, a version, and the writer's machine
        _unpickled(stream, {}, {})
    found = _unpickled(stream, modules, storages)
    for key in _unpickled(stream, {}, {}):
        (count,) = struct.unpack("<q", stream.read(8))
        if not 0 <= count <= len(data) // 4:
            raise UnpicklingRefused(f"a storage has {count} numbers")
        storages[key].numbers = np.frombuffer(stream.read(4 * count), "<f4")
    return found


def _unpickled(
    stream: io.BytesIO, modules: Mapping[str, frozenset[str]], storages: dict[str, Storage]
) -> Any:
    _check_instructions(stream)
    return _Unpickler(stream, _known(modules), storages).load()


def _check_instructions(stream: io.BytesIO) -> None:
    """Look through a pickle without following it."""
    start = stream.tell()
    for count, (instruction, value, _) in enumerate(pickletools.genops(stream)):
        # The memo is as long as its highest index, whatever is in it.
        far = instruction.name in ("BINPUT", "LONG_BINPUT") and int(value or 0) > count
        if instruction.name not in _INSTRUCTIONS or far:
            raise UnpicklingRefused(f"it has the instruction {instruction.name} ({value!r})")
    stream.seek(start)


def _known(modules: Mapping[str, frozenset[str]]) -> dict[tuple[str, str], Any]:
    """What names stand for; made anew for each pickle, which could change it."""

    def rebuilt(storage: Storage, offset: int, size: Any, *_: object) -> Callable[[], Any]:
        return lambda: storage.tensor(offset, tuple(size))

    known: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("builtins", "set"): set,
        ("__builtin__", "set"): set,
        ("torch", "FloatStorage"): type("FloatStorage", (), {}),
        ("torch._utils", "_rebuild_tensor_v2"): rebuilt,
    }
    for module, names in modules.items():
        known.update({(module, name): type(name, (Module,), {}) for name in names})
    return known


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, stream: io.BytesIO, known: Mapping[tuple[str, str], Any], storages: dict[str, Storage]
    ) -> None:
        super().__init__(stream)
        self._known = known
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            raise UnpicklingRefused(f"it names {module}.{name}")
        return self._known[module, name]

    def persistent_load(self, identity: Any) -> Any:
        kind, *rest = identity
        if kind == "module":  # a class, with its source, which is of no use
            return rest[0]
        if kind != "storage" or rest[0] is not self._known["torch", "FloatStorage"]:
            raise UnpicklingRefused(f"it refers to a {kind} that is not of float32")
        return self._storages.setdefault(str(rest[1]), Storage())
