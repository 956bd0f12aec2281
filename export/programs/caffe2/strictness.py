"""Stops at what Caffe2 has no operator for; conversion.py says where in the model that is."""

from __future__ import annotations


class NotInCaffe2(Exception):
    """Its text is what Caffe2 cannot do, as a noun."""


def require(holds: bool, otherwise: str) -> None:
    """Make sure that Caffe2's operator does what torch's does.

    Args:
        holds: whether it does.
        otherwise: what there is that it does not know, as a noun.

    Raises:
        NotInCaffe2: it does not.
    """
    if not holds:
        raise NotInCaffe2(otherwise)
