"""Finds the names of a model's classes: given by the user, or in its data sets' metadata.

Answers name their classes, and neither a config nor its weights has the names.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from detectron2.data import MetadataCatalog

from d2serve.export.errors import ConfigError
from d2serve.export.reading.config import ModelConfig


@dataclass(frozen=True)
class Names:
    """One name a class each, or None where they are not known."""

    classes: tuple[str, ...] | None
    """Of instances."""
    stuff: tuple[str, ...] | None
    """Of the labels of sem_seg."""


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


def find_names(
    config: ModelConfig,
    num_classes: int | None,
    num_labels: int | None,
    class_names: Sequence[str] | None,
    stuff_class_names: Sequence[str] | None,
) -> Names:
    """The names that are given, otherwise those of the data sets' metadata.

    Args:
        config: names the data sets.
        num_classes: of instances; None where the model has none.
        num_labels: of sem_seg; None where the model has none.
        class_names, stuff_class_names: given by the user.

    Raises:
        ConfigError: a name is empty or given twice, or names are not as many as the model's
            classes, or it has none to name.
    """
    return Names(
        _names("--class-names", "thing_classes", config, num_classes, class_names),
        _names("--stuff-class-names", "stuff_classes", config, num_labels, stuff_class_names),
    )


def _names(
    option: str, key: str, config: ModelConfig, count: int | None, given: Sequence[str] | None
) -> tuple[str, ...] | None:
    if count is None:
        if given is not None:
            kind = "instances" if key == "thing_classes" else "semantic segmentation"
            raise ConfigError(f"{option} was given, but the model has no {kind}: leave it out.")
        return None
    if given is not None:
        given = _checked(option, given)
        if len(given) != count:
            raise ConfigError(
                f"{option} has {len(given)} names, the model has {count} classes. "
                "Give one name for each, in the order of training, separated by commas."
            )
        return given
    for dataset in (*config.test_datasets, *config.train_datasets):
        names = MetadataCatalog.get(dataset).get(key)
        if names is not None and len(names) == count:
            return tuple(names)
    return None


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
