"""Reads the source around a place where a trace made a constant: what is it compared with?"""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import operator
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import CodeType, FrameType, ModuleType

import torch

# What an attribute is read of: nothing that runs a user's code.
_LOOKED_INTO = (ModuleType, torch.Tensor)
_LITERALS = (ast.List, ast.Tuple, ast.ListComp, ast.Constant)
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


def is_recorded(frame: FrameType) -> bool:
    """Whether a size goes into a slice or a function of torch's: the trace keeps it as a tensor."""
    node = _running(frame)
    if isinstance(node, ast.Subscript):
        container = _looked_up(node.value, frame)
        if isinstance(container, (list, tuple, str)) or isinstance(node.value, _LITERALS):
            return False
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return container is not None or any(isinstance(part, ast.Slice) for part in parts)
    if isinstance(node, ast.Call):
        called = _looked_up(node.func, frame)
        if called is None and isinstance(node.func, ast.Attribute):  # of something not looked up
            return hasattr(torch.Tensor, node.func.attr) and not hasattr(list, node.func.attr)
        owner = getattr(called, "__module__", None) or type(getattr(called, "__self__", None))
        return "torch" in str(owner)
    return False


def _running(frame: FrameType) -> ast.expr | None:
    """The expression that a frame is at, by the positions that its code has of each instruction."""
    positions = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    for node in ast.walk(_parsed(frame.f_code)):
        if isinstance(node, (ast.Subscript, ast.Call, ast.BinOp)):
            place = (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)
            if place == positions:
                return node
    return None


def _looked_up(node: ast.expr, frame: FrameType) -> object:
    if isinstance(node, ast.Name):
        builtin = getattr(builtins, node.id, None)
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id, builtin))
    if isinstance(node, ast.Attribute):
        holder = _looked_up(node.value, frame)
        return getattr(holder, node.attr, None) if isinstance(holder, _LOOKED_INTO) else None
    return None


@lru_cache(maxsize=256)
def _parsed(code: CodeType) -> ast.AST:
    """The function's syntax; empty where there is no source."""
    for node in ast.walk(_file(code.co_filename)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            if (node.name, first) == (code.co_name, code.co_firstlineno):
                return node
        elif isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno:
            return node
    return ast.Module([], [])


@lru_cache(maxsize=64)
def _file(name: str) -> ast.Module:
    try:
        return ast.parse("".join(linecache.getlines(name)))
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _compared(tree: ast.AST) -> Iterator[ast.expr]:
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
