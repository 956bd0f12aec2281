"""Names of a model's classes as a user gives them; what is done with them needs no detectron2."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from d2serve.export.errors import ConfigError

INSTANCES, LABELS = "instances", "semantic segmentation"
"""What a model has or has not, as messages name it."""


@dataclass(frozen=True)
class Names:
    """One name a class each, or None where they are not known."""

    classes: tuple[str, ...] | None
    """Of instances."""
    stuff: tuple[str, ...] | None
    """Of the labels of sem_seg."""
    classes_from: str | None = None
    """Where they were found, in words."""
    stuff_from: str | None = None
    notes: tuple[str, ...] = ()
    """What the user should know of how they were chosen, or why there are none."""


def split_names(option: str, text: str) -> list[str]:
    """The names of an option's value: separated by commas, or in double quotes.

    Raises:
        ConfigError: a quote is not closed.
    """
    try:
        (names,) = csv.reader([text or '""'], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        raise ConfigError(
            f"{option} is {text!r}, expected names separated by commas on one line. A name with "
            "a comma in it stands in double quotes: 'cat, \"dog, wild\", bird'"
        ) from None
    return [name.strip() for name in names]


def names_given(
    option: str, given: Sequence[str] | None, count: int | None, kind: str
) -> tuple[str, ...] | None:
    """The names that a user gives, one for each class, or None where none are given.

    Args:
        option: with which they are given.
        given: the names.
        count: of the classes; None where the model has none.
        kind: what they are classes of: ``INSTANCES`` or ``LABELS``.

    Raises:
        ConfigError: a name is empty or given twice, or they are not as many as the classes, or
            there are no classes to name.
    """
    if given is None:
        return None
    if count is None:
        raise ConfigError(f"{option} was given, but the model has no {kind}: leave it out.")
    names = _checked(option, given)
    if len(names) != count:
        raise ConfigError(
            f"{option} has {len(names)} names, the model has {count} classes. "
            "Give one name for each, in the order of training, separated by commas."
        )
    return names


def _checked(option: str, given: Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in given)
    for index, name in enumerate(names):
        if not name:
            raise ConfigError(
                f"{option}: name {index + 1} is empty; is there a comma too many? Give one name "
                "for each class, in the order of training."
            )
        if name in names[:index]:
            raise ConfigError(
                f"{option}: {name!r} is given twice, for classes {names.index(name)} and {index}. "
                "Clients choose classes by name, so each needs a name of its own."
            )
    return names
