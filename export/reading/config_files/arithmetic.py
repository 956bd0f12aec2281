"""Reads ``!!python/object/apply:eval`` where it is arithmetic, as detectron2's own configs have it.

Base-RetinaNet.yaml writes the sizes of its anchors as a list of sums over a list, and the projects'
configs the sizes of training images as ``[int(x * 0.1 * 640) for x in range(5, 21)]``. Numbers,
lists and comprehensions over lists and ranges are worked out here, with names of nothing but the
comprehension's own variable; ``int`` and ``range`` are known, and nothing is called.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
# An expression must not cost more than the config it stands in.
_MOST_CHARACTERS, _LARGEST_POWER, _LARGEST = 1000, 64, 1e12
_LONGEST_RANGE = 1000


def worked_out(expression: object) -> Any:
    """The value of an expression.

    Raises:
        ValueError: it is more than arithmetic.
    """
    if not isinstance(expression, str) or len(expression) > _MOST_CHARACTERS:
        raise ValueError
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body, {})
    except (ArithmeticError, RecursionError, SyntaxError, TypeError) as error:
        raise ValueError from error


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return _bounded(node.value)
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(node.operand, names)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _number(node.left, names), _number(node.right, names)
        if isinstance(node.op, ast.Pow) and abs(right) > _LARGEST_POWER:
            raise ValueError
        return _bounded(_BINARY[type(node.op)](left, right))
    if isinstance(node, ast.Call) and _called(node) == "int" and len(node.args) == 1:
        return int(_number(node.args[0], names))
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(each, names) for each in node.elts]
    if isinstance(node, ast.ListComp) and len(node.generators) == 1 and not names:
        (loop,) = node.generators
        over = _looped_over(loop.iter)
        if isinstance(loop.target, ast.Name) and not loop.ifs and isinstance(over, list):
            return [_value(node.elt, {loop.target.id: each}) for each in over]
    raise ValueError


def _looped_over(node: ast.expr) -> Any:
    if not isinstance(node, ast.Call):
        return _value(node, {})
    bounds = [_value(each, {}) for each in node.args]
    if _called(node) != "range" or not all(isinstance(each, int) for each in bounds):
        raise ValueError
    numbers = range(*bounds)
    if len(numbers) > _LONGEST_RANGE:
        raise ValueError
    return list(numbers)


def _called(node: ast.Call) -> str | None:
    return node.func.id if isinstance(node.func, ast.Name) and not node.keywords else None


def _number(node: ast.expr, names: Mapping[str, Any]) -> int | float:
    value = _value(node, names)
    if not isinstance(value, (int, float)):
        raise ValueError
    return value


def _bounded(value: Any) -> int | float:
    if not isinstance(value, (int, float)) or abs(value) > _LARGEST:
        raise ValueError
    return value
