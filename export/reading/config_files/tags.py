"""A YAML loader that reads Python's tags as the data they stand for, and runs none of them.

yacs writes ``!!python/tuple``, some versions whole ``CfgNode`` objects. LazyConfig.save writes the
classes of its arguments by name, dataclasses such as ShapeSpec, and ``functools.partial``. Whatever
else a tag would make is refused by its name.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import yaml

from d2serve.export.reading.config_files.arithmetic import worked_out
from d2serve.export.reading.config_files.code_names import CodeName, resolve

_PYTHON = "tag:yaml.org,2002:python/"
_DICTS = ("collections.OrderedDict", "collections.defaultdict", "argparse.Namespace")
_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_EVAL = ("eval", "builtins.eval", "__builtin__.eval")
_PATHS = ("pathlib.PosixPath", "pathlib.PurePosixPath", "pathlib.WindowsPath", "pathlib.Path")


class Refused(Exception):
    """A YAML file asks for what is not read; ``mark`` says where."""

    def __init__(self, mark: yaml.Mark, reason: str) -> None:
        """``reason`` ends the sentence that begins with file and line."""
        super().__init__(reason)
        self.mark = mark


class _DataLoader(yaml.SafeLoader):
    own_packages: frozenset[str] = frozenset()


def loader_of(content: bytes, own_packages: frozenset[str]) -> yaml.SafeLoader:
    """The loader of a file's content; ``own_packages`` as for ``code_names.resolve``."""
    loader = _DataLoader(content)
    loader.own_packages = own_packages
    return loader


def _refuse(node: yaml.Node, tag: str) -> Any:
    raise Refused(
        node.start_mark,
        f"{tag} would run code when it is read, and a YAML config is read as data here. Write the "
        "value itself in its place; code belongs in a LazyConfig (.py) or behind --import.",
    )


def _tuple(loader: _DataLoader, node: yaml.SequenceNode) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


def _text(loader: _DataLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


def _name(loader: _DataLoader, name: str, node: yaml.Node) -> Any:
    return resolve(name, loader.own_packages, node.start_mark.line + 1)


def _plain_object(loader: _DataLoader, name: str, node: yaml.Node) -> Any:
    """``!!python/object:NAME {attributes}``."""
    if not isinstance(node, yaml.MappingNode):
        return _refuse(node, f"!!python/object:{name}")
    state = {str(k): v for k, v in loader.construct_mapping(node, deep=True).items()}
    if name in _DICTS or _is_cfg_node(name):
        return state
    return _made(loader, name, node, (), state, f"!!python/object:{name}")


def _made_object(form: str, loader: _DataLoader, name: str, node: yaml.Node) -> Any:
    """``!!python/object/new:NAME`` and ``!!python/object/apply:NAME``."""
    tag = f"!!python/object/{form}:{name}"
    parts: dict[str, Any] = {}
    if isinstance(node, yaml.SequenceNode):
        parts["args"] = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        parts = {str(k): v for k, v in loader.construct_mapping(node, deep=True).items()}
    else:
        return _refuse(node, tag)
    args = tuple(parts.get("args") or ())
    if name in _EVAL and len(args) == 1:
        try:
            return worked_out(args[0])
        except ValueError:
            return _refuse(node, tag)
    if name in _DICTS or _is_cfg_node(name):
        pairs = args[0] if args and isinstance(args[0], (list, tuple, dict)) else ()
        return {**dict(pairs), **(parts.get("dictitems") or {})}
    if name == "numpy.dtype":
        return np.dtype(str(args[0])) if args else _refuse(node, tag)
    if name in _SCALARS and len(args) == 2 and isinstance(args[0], np.dtype):
        return np.frombuffer(args[1], args[0], 1)[0].item()
    if name in _PATHS:
        return str(PurePosixPath(*map(str, args)))
    if name == "functools.partial":
        return _partial(node, parts.get("state"), tag)
    return _made(loader, name, node, args, parts.get("kwds") or {}, tag)


def _is_cfg_node(name: str) -> bool:
    return name.rpartition(".")[2] == "CfgNode"


def _partial(node: yaml.Node, state: Any, tag: str) -> Any:
    if not (isinstance(state, tuple) and len(state) == 4):
        return _refuse(node, tag)
    function, args, named, _attributes = state
    if isinstance(function, CodeName):
        return function
    # Only what `resolve` lets through is ever called, and only when the model is built.
    return functools.partial(function, *(args or ()), **(named or {}))


def _made(
    loader: _DataLoader,
    name: str,
    node: yaml.Node,
    args: tuple[Any, ...],
    named: dict[str, Any],
    tag: str,
) -> Any:
    """An object of a class that only holds values: a dataclass, an enum, a torch.device."""
    kind = resolve(name, loader.own_packages, node.start_mark.line + 1)
    holds_values = isinstance(kind, type) and (
        dataclasses.is_dataclass(kind)
        or issubclass(kind, enum.Enum)
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))  # ShapeSpec of older detectron2
        or name in ("torch.device", "torch.Size")
    )
    if not holds_values:
        return _refuse(node, tag)
    return kind(*args, **named)


def _unknown(_loader: _DataLoader, suffix: str, node: yaml.Node) -> Any:
    tag = node.tag or suffix
    shown = tag.replace("tag:yaml.org,2002:", "!!")
    raise Refused(
        node.start_mark,
        f"the tag {shown} is not known, and a YAML config is read as data here. Write the value "
        "itself in its place.",
    )


_SAFE: dict[str | None, Any] = yaml.SafeLoader.yaml_constructors
for _python, _plain in {
    "none": "null",
    "bool": "bool",
    "str": "str",
    "unicode": "str",
    "int": "int",
    "long": "int",
    "float": "float",
    "list": "seq",
    "dict": "map",
    "bytes": "binary",
}.items():
    _DataLoader.add_constructor(_PYTHON + _python, _SAFE[f"tag:yaml.org,2002:{_plain}"])
_DataLoader.add_constructor(_PYTHON + "tuple", _tuple)
_DataLoader.add_constructor(_PYTHON + "complex", _text)
_DataLoader.add_multi_constructor(_PYTHON + "name:", _name)
_DataLoader.add_multi_constructor(_PYTHON + "object:", _plain_object)
for _form in ("new", "apply"):
    _DataLoader.add_multi_constructor(
        f"{_PYTHON}object/{_form}:", functools.partial(_made_object, _form)
    )
_DataLoader.add_multi_constructor(
    _PYTHON + "module:", lambda _loader, name, node: _refuse(node, f"!!python/module:{name}")
)
_DataLoader.add_multi_constructor("", _unknown)
_DataLoader.yaml_constructors.pop(None, None)  # SafeLoader's own refusal of unknown tags
