"""Stand-ins for what checkpoints hold beside tensors and what is only data.

Trainers save their arguments, their config and numpy's scalars with the weights. torch refuses a
file for one of these names, although nothing asks for them. Each is given something that holds its
values and runs nothing; every other name is refused as before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import numpy as np

try:  # numpy 2 moved it
    from numpy._core import multiarray
except ImportError:
    from numpy.core import multiarray  # type: ignore[no-redef]

_DICTS = (
    "detectron2.config.config.CfgNode",
    "fvcore.common.config.CfgNode",
    "yacs.config.CfgNode",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "collections.defaultdict",
)
_VALUES = (
    "builtins.dict",
    "builtins.float",
    "builtins.int",
    "builtins.list",
    "argparse.Namespace",
    "types.SimpleNamespace",
    "datetime.datetime",
    "datetime.date",
    "datetime.timedelta",
)
_PATHS = tuple(
    f"pathlib{module}.{name}"
    for module in ("", "._local")
    for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
)
_NUMPY_TYPES = "?bBhHiIlLqQefdFDSU"


class Values:
    """Stands for an object that only holds values: they are its attributes."""

    def __init__(self, *_args: Any) -> None:
        """Whatever it was made with."""

    def __setstate__(self, state: Any) -> None:
        """Take its attributes, where they are a dict."""
        if isinstance(state, dict):
            self.__dict__.update({str(key): value for key, value in state.items()})


def _stand_in(full_name: str, make: Callable[..., Any]) -> type:
    """A class under a name of elsewhere whose instances are what ``make`` gives."""
    module, _, name = full_name.rpartition(".")

    def made(_cls: type, *args: Any) -> Any:
        return make(*args)

    return type(name, (), {"__module__": module, "__new__": made})


def _holder(full_name: str) -> type:
    module, _, name = full_name.rpartition(".")
    return type(name, (Values,), {"__module__": module})


def _empty_dict(*_args: Any) -> OrderedDict[Any, Any]:
    # A kind of dict that torch's reader fills and gives attributes to.
    return OrderedDict()


def _path(*parts: Any) -> str:
    return str(PurePosixPath(*map(str, parts)))


STAND_INS: dict[str, type] = {
    **{name: _stand_in(name, _empty_dict) for name in _DICTS},
    **{name: _holder(name) for name in _VALUES},
    **{name: _stand_in(name, _path) for name in _PATHS},
    **{
        f"numpy.{core}.multiarray.{name}": _stand_in(
            f"numpy.{core}.multiarray.{name}", getattr(multiarray, name)
        )
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    },
}
"""By full name: what is made instead, without looking at what is installed."""

OF_NUMPY: list[Any] = [
    np.dtype,
    np.ndarray,
    *{type(np.dtype(code)) for code in _NUMPY_TYPES},
]
"""numpy's own classes that its arrays and scalars are restored with."""
