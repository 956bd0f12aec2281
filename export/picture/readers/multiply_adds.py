"""How many multiplications and additions an operation takes.

One multiplication and the addition that follows count as one. Convolutions, matrix products and
attention are counted, as in fvcore's FlopCountAnalysis; what they leave out is small beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from torch import Tensor

Sizes = Sequence[int]


def convolution(result: Sizes, weight: Sizes) -> int:
    """Each number of the result takes one filter; the weight is (out, in / groups, ...)."""
    return prod(result) * prod(weight[1:])


def transposed_convolution(given: Sizes, weight: Sizes) -> int:
    """Each number of the input meets one filter; the weight is (in, out / groups, ...)."""
    return prod(given) * prod(weight[1:])


def matrix_product(result: Sizes, inner: int) -> int:
    """Each number of the result takes ``inner`` of them."""
    return prod(result) * inner


def of_call(name: str, arguments: Sequence[Any], result: Any) -> int:
    """Of a call of torch's, by its operator's name without the overload.

    Where the result has no rows, as a head's of nothing found, that of one row.
    """
    count = _CALLS.get(name)
    if count is None or not isinstance(_first(result), Tensor):
        return 0
    return count(arguments, _at_least_one_row(_first(result)))


def _first(result: Any) -> Any:
    return result[0] if isinstance(result, (tuple, list)) and result else result


def _at_least_one_row(tensor: Tensor) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    return (max(shape[0], 1), *shape[1:]) if shape else shape


def _convolution(arguments: Sequence[Any], result: Sizes) -> int:
    given, weight, transposed = arguments[0], arguments[1], arguments[6]
    if transposed:
        return transposed_convolution(_at_least_one_row(given), weight.shape)
    return convolution(result, weight.shape)


def _attention(arguments: Sequence[Any], result: Sizes) -> int:
    query, key = arguments[0], arguments[1]
    return matrix_product((*query.shape[:-1], key.shape[-2]), query.shape[-1]) + matrix_product(
        result, key.shape[-2]
    )


_CALLS: dict[str, Callable[[Sequence[Any], Sizes], int]] = {
    "aten::convolution": _convolution,
    "aten::mm": lambda given, result: matrix_product(result, given[0].shape[-1]),
    "aten::bmm": lambda given, result: matrix_product(result, given[0].shape[-1]),
    "aten::addmm": lambda given, result: matrix_product(result, given[1].shape[-1]),
    "aten::baddbmm": lambda given, result: matrix_product(result, given[1].shape[-1]),
    "torchvision::deform_conv2d": lambda given, result: convolution(result, given[1].shape),
    **dict.fromkeys(
        (
            "aten::_scaled_dot_product_flash_attention_for_cpu",
            "aten::_scaled_dot_product_flash_attention",
            "aten::_scaled_dot_product_efficient_attention",
            "aten::_scaled_dot_product_cudnn_attention",
            "aten::_scaled_dot_product_fused_attention_overrideable",
        ),
        _attention,
    ),
}
