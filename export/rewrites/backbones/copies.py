"""Tells whether a project's class is a copy of one of detectron2's, by what its code says.

Many projects bring Swin in a file of their own, with other names of outputs, say, and the rest word
for word. What is right for the one is right for the other, as long as not a word differs.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any


def is_copied(own: type, upstream: type) -> bool:
    """Whether another class of the same name has a ``forward`` of the same words.

    Formatting, comments and docstrings are free. Functions beside the classes that it calls have to
    be the same as well, and modules the same ones.
    """
    if own.__name__ != upstream.__name__ or issubclass(own, upstream):
        return False
    mine, theirs = vars(own).get("forward"), vars(upstream)["forward"]
    return isinstance(mine, FunctionType) and _same_function(mine, theirs)


@functools.cache
def _same_function(mine: FunctionType, theirs: FunctionType) -> bool:
    if mine is theirs:
        return True
    if _words(mine) is None or _words(mine) != _words(theirs):
        return False
    return all(
        _same_global(mine.__globals__.get(name), theirs.__globals__.get(name))
        for name in theirs.__code__.co_names
    )


def _same_global(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, FunctionType) and isinstance(theirs, FunctionType):
        return _same_function(mine, theirs)
    if isinstance(mine, ModuleType) and isinstance(theirs, ModuleType):
        return mine is theirs
    # An attribute's name, which says nothing of what the file has under it.
    return True


def _words(function: Callable[..., object]) -> str | None:
    """A function as it is parsed; None where its source is not there."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None
    # Texts that stand alone, as a docstring does, do nothing.
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [each for each in body if not _is_text(each)]
            vars(node)["body"] = kept or [ast.Pass()]
    return ast.dump(tree)


def _is_text(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
