"""Reads the source around a place where a trace made a constant: what is it compared with?"""

from __future__ import annotations

import ast
import inspect
import operator
import textwrap
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import CodeType, FrameType

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}


def only_ends(frame: FrameType) -> bool:
    """Whether the line that runs can only end the program: ``assert``, or ``if ...: raise``."""
    line = frame.f_lineno
    for node in ast.walk(_parsed(frame.f_code)):
        if isinstance(node, ast.Assert) and node.lineno <= line <= (node.end_lineno or 0):
            return True
        if isinstance(node, ast.If) and not node.orelse:
            within = node.test.lineno <= line <= (node.test.end_lineno or 0)
            if within and all(isinstance(each, ast.Raise) for each in node.body):
                return True
    return False


def thresholds(frame: FrameType) -> tuple[float, ...]:
    """Numbers above 1 that a running function compares something with, smallest first.

    Args:
        frame: of the function; names of numbers are looked up in it.
    """
    found = (_number(each, frame) for each in _compared(_parsed(frame.f_code)))
    return tuple(sorted({value for value in found if value is not None and value > 1}))


@lru_cache(maxsize=256)
def _parsed(code: CodeType) -> ast.Module:
    """The function's syntax with the file's line numbers; empty where there is no source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, SyntaxError, TypeError, ValueError):
        return ast.Module([], [])
    ast.increment_lineno(tree, code.co_firstlineno - 1)
    return tree


def _compared(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield node.left
            yield from node.comparators
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("min", "max"):
            yield from node.args


def _number(node: ast.expr, frame: FrameType) -> float | None:
    """The value of numbers, names of numbers and their arithmetic; nothing is called."""
    value: object = None
    if isinstance(node, ast.Constant):
        value = node.value
    elif isinstance(node, ast.Name):
        value = frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    elif isinstance(node, ast.Attribute):
        value = _attribute(node, frame)
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _number(node.left, frame), _number(node.right, frame)
        if left is not None and right is not None:
            try:
                value = _OPERATORS[type(node.op)](left, right)
            except (ArithmeticError, ValueError):
                return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value


def _attribute(node: ast.Attribute, frame: FrameType) -> object:
    path = [node.attr]
    holder = node.value
    while isinstance(holder, ast.Attribute):
        path.append(holder.attr)
        holder = holder.value
    if not isinstance(holder, ast.Name):
        return None
    found: object = frame.f_locals.get(holder.id, frame.f_globals.get(holder.id))
    for name in reversed(path):
        found = inspect.getattr_static(found, name, None)
    return found
