"""An operator's or a net's arguments, each read as the kind that it must be."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeVar

from d2serve.handlers.netdef.messages import Argument
from d2serve.handlers.netdef.wire import Float32

A = TypeVar("A")


class ArgumentError(ValueError):
    """An argument is missing, or is of another kind or value than can be run."""


class Arguments:
    """Arguments by name; of two with one name the first counts, as in Caffe2."""

    def __init__(self, arguments: Iterable[Argument]) -> None:
        self._by_name: dict[str, Argument] = {}
        for each in arguments:
            self._by_name.setdefault(each.name or "", each)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        found = self._by_name.get(name)
        if found is None:
            return self._given(name, default)
        return self._given(name, found.i, "a whole number")

    def boolean(self, name: str, default: bool) -> bool:
        """True or false, which Caffe2 keeps as a whole number."""
        return bool(self.integer(name, int(default)))

    def number(self, name: str, default: float | None = None) -> float:
        """A float; whoever wrote the file may have kept a whole one as such."""
        found = self._by_name.get(name)
        if found is None:
            return self._given(name, default)
        value = self._given(name, found.i if found.f is None else found.f, "a number")
        if not math.isfinite(value):
            raise ArgumentError(f"{name} is {value}, expected a finite number")
        return float(value)

    def text(self, name: str, default: str | None = None) -> str:
        """Text, which Caffe2 keeps as bytes."""
        if name not in self._by_name:
            return self._given(name, default)
        return self.data(name).decode("utf-8", "replace")

    def data(self, name: str) -> bytes:
        """Bytes."""
        found = self._by_name.get(name)
        return self._given(name, None if found is None else found.s, "bytes")

    def integers(self, name: str) -> tuple[int, ...]:
        """Whole numbers; none where the argument is not there."""
        found = self._by_name.get(name)
        return () if found is None else found.ints

    def floats(self, name: str) -> Float32:
        """Floats; none where the argument is not there."""
        return self._by_name.get(name, Argument()).floats

    def expect(self, name: str, value: int | str, default: int | str) -> None:
        """Refuse what changes the meaning of an operator in a way that is not run.

        Raises:
            ArgumentError: the argument, or its default, is another value.
        """
        found = (
            self.text(name, str(default))
            if isinstance(value, str)
            else self.integer(name, int(default))
        )
        if found != value:
            raise ArgumentError(f"{name} is {found!r}, expected {value!r}")

    @staticmethod
    def _given(name: str, value: A | None, kind: str = "there") -> A:
        if value is None:
            raise ArgumentError(f"the argument {name} is not {kind}")
        return value
