"""Reads ``!!python/object/apply:eval`` where it is arithmetic, as Base-RetinaNet.yaml has it.

detectron2's own config writes the sizes of its anchors as a list of sums over a list. Numbers,
lists and comprehensions over lists are worked out here, with names of nothing but the
comprehension's own variable; nothing is called.
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
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(each, names) for each in node.elts]
    if isinstance(node, ast.ListComp) and len(node.generators) == 1 and not names:
        (loop,) = node.generators
        over = _value(loop.iter, names)
        if isinstance(loop.target, ast.Name) and not loop.ifs and isinstance(over, list):
            return [_value(node.elt, {loop.target.id: each}) for each in over]
    raise ValueError


def _number(node: ast.expr, names: Mapping[str, Any]) -> int | float:
    value = _value(node, names)
    if not isinstance(value, (int, float)):
        raise ValueError
    return value


def _bounded(value: Any) -> int | float:
    if not isinstance(value, (int, float)) or abs(value) > _LARGEST:
        raise ValueError
    return value
