"""Matches the categories of an annotation file with the classes of a model.

detectron2 takes the categories by rising id for the classes in order. Where they are others, every
score is silently that of another class: Roboflow writes the project's name as a category of its
own, 0, and two exports of one project may number its classes differently. So they are matched by
name where both have names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d2serve.export.annotations.files import key_of
from d2serve.export.errors import EvaluationError

_SHOWN = 8


@dataclass(frozen=True)
class Matching:
    """Which class each category is."""

    class_of: Mapping[str, int]
    """By the category's id as text; categories that are no class of the model have none."""
    names: tuple[str, ...]
    """Of the classes, in order."""
    notes: tuple[str, ...]
    """What does not fit, in sentences."""


def match_categories(
    categories: Sequence[Mapping[str, Any]],
    annotated: Mapping[str, int],
    names: Sequence[str] | None,
    count: int | None,
    source: object,
) -> Matching:
    """Find the class of each category.

    Args:
        categories: with ``id`` and ``name``, as COCO has them.
        annotated: by id of a category as text, how many annotations it has.
        names: of the model's classes, where they are known.
        count: of its classes; None where it tells no classes apart.
        source: of the categories; named in notes and errors.

    Raises:
        EvaluationError: they cannot be matched, with what was got, expected, and what to do.
    """
    in_order = sorted(categories, key=lambda each: (isinstance(each["id"], str), each["id"]))
    in_order = [{**each, "id": key_of(each["id"])} for each in in_order]
    own = tuple(str(each["name"]) for each in in_order)
    if count is None:
        return Matching({each["id"]: n for n, each in enumerate(in_order)}, own, ())
    if names is None:
        return _by_order(in_order, annotated, own, count, source)
    return _by_name(in_order, annotated, tuple(names), source)


def _by_name(
    categories: Sequence[Mapping[str, Any]],
    annotated: Mapping[str, int],
    names: tuple[str, ...],
    source: object,
) -> Matching:
    exact = {name: number for number, name in enumerate(names)}
    plain = {_plain(name): number for number, name in enumerate(names)}
    if len(plain) < len(names):  # names that differ in case alone
        plain = {}
    class_of: dict[str, int] = {}
    strangers: list[Mapping[str, Any]] = []
    for each in categories:
        name = str(each["name"])
        number = exact.get(name.strip(), plain.get(_plain(name)))
        if number is None:
            strangers.append(each)
        else:
            class_of[each["id"]] = number
    if not class_of:
        raise EvaluationError(
            f"No category of {source} ({_listed(str(each['name']) for each in categories)}) is a "
            f"class of the model ({_listed(names)}), so there is nothing to judge it by. If they "
            "are the same classes under other names, give the categories the names of the model's "
            "classes, or export it again with --class-names."
        )
    notes = []
    if list(class_of.values()) != list(range(len(names))) or strangers:
        notes.append(
            f"The categories of {source} are not the model's classes in number and order, and are "
            f"matched by name: {_listed(_pairs(categories, class_of, names))}."
        )
    left_out = sum(annotated.get(each["id"], 0) for each in strangers)
    if left_out:
        notes.append(
            f"{left_out} annotations of {_listed(str(each['name']) for each in strangers)} are "
            "left out: the model has no such class."
        )
    seen = {number for key, number in class_of.items() if annotated.get(key)}
    unseen = [name for number, name in enumerate(names) if number not in seen]
    if unseen and seen:
        notes.append(
            f"No annotation in {source} is of {_listed(unseen)}: of "
            f"{'these classes' if len(unseen) > 1 else 'this class'} nothing is measured."
        )
    return Matching(class_of, names, tuple(notes))


def _by_order(
    categories: Sequence[Mapping[str, Any]],
    annotated: Mapping[str, int],
    own: tuple[str, ...],
    count: int,
    source: object,
) -> Matching:
    notes: tuple[str, ...] = ()
    if len(categories) == count + 1 and not annotated.get(categories[0]["id"]):
        first = categories[0]
        if str(first.get("supercategory", "none")) in ("none", "") or first["id"] == "0":
            notes = (
                f"The category {first['name']} (id {first['id']}) of {source} has no annotations "
                "and is left out: Roboflow writes the project's name as one.",
            )
            categories, own = categories[1:], own[1:]
    if len(categories) != count:
        raise EvaluationError(
            f"{source} has {len(categories)} categories ({_listed(own)}), the model has {count} "
            "classes, whose names are not known: nothing says which is which. Export the model "
            "again with --class-names, in the order of training; then they are matched by name."
        )
    class_of = {each["id"]: number for number, each in enumerate(categories)}
    order = _listed(f"{number} {name}" for number, name in enumerate(own))
    unnamed = (
        f"The names of the model's classes are not known: the categories of {source} are taken "
        f"for its classes by rising id, {order}."
    )
    return Matching(class_of, own, (*notes, unnamed))


def _pairs(
    categories: Sequence[Mapping[str, Any]], class_of: Mapping[str, int], names: Sequence[str]
) -> list[str]:
    return [
        f"{each['id']} {each['name']} is "
        + (
            f"class {class_of[each['id']]} {names[class_of[each['id']]]}"
            if each["id"] in class_of
            else "none"
        )
        for each in categories
    ]


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def _listed(names: Any) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return (", ".join(every[:_SHOWN]) + more) or "none"
