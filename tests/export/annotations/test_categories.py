"""Categories are the classes of their names; what cannot be told apart is refused."""

from __future__ import annotations

from typing import Any

import pytest

from d2serve.export.annotations.categories import Matching, match_categories
from d2serve.export.errors import EvaluationError

NAMES = ("circle", "rectangle", "triangle")


def match(
    categories: dict[Any, str], names: tuple[str, ...] | None = NAMES, empty: tuple[Any, ...] = ()
) -> Matching:
    entries = [{"id": key, "name": name} for key, name in categories.items()]
    annotated = {str(key): 4 for key in categories if key not in empty}
    return match_categories(entries, annotated, names, 3, "a.json")


@pytest.mark.parametrize("names", [NAMES, None])
def test_the_models_own_order_needs_no_word(names: tuple[str, ...] | None) -> None:
    found = match({5: "circle", 9: "rectangle", 11: "triangle"}, names)
    assert found.class_of == {"5": 0, "9": 1, "11": 2}
    assert found.names == NAMES
    assert bool(found.notes) is (names is None)


@pytest.mark.parametrize(
    ("categories", "class_of"),
    [
        ({1: "triangle", 2: "rectangle", 3: "circle"}, {1: 2, 2: 1, 3: 0}),
        ({0: "shapes", 1: "circle", 2: "rectangle", 3: "triangle"}, {1: 0, 2: 1, 3: 2}),
        ({1: "circle", 3: "triangle"}, {1: 0, 3: 2}),
        ({1: "Circle", 2: " rectangle", 3: "TRIANGLE"}, {1: 0, 2: 1, 3: 2}),
        ({1: "circle", 2: "dog", 3: "triangle"}, {1: 0, 3: 2}),
    ],
)
def test_names_say_which_class_it_is(categories: dict[Any, str], class_of: dict[Any, int]) -> None:
    found = match(categories, empty=(0,))
    assert found.class_of == {str(key): number for key, number in class_of.items()}
    in_order = list(class_of.values()) == [0, 1, 2] and len(categories) == 3
    assert in_order or "matched by name" in found.notes[0]


def test_what_is_left_out_and_what_is_not_there_are_said() -> None:
    notes = " ".join(match({1: "circle", 2: "dog"}).notes)
    assert "4 annotations of dog are left out" in notes
    assert "rectangle, triangle: of these classes nothing is measured" in notes


def test_other_names_altogether_are_refused_before_any_pass() -> None:
    with pytest.raises(EvaluationError, match=r"\(cat, dog, cow\) is a class of the model \(circl"):
        match({1: "cat", 2: "dog", 3: "cow"})


@pytest.mark.parametrize("categories", [{1: "a"}, {1: "a", 2: "b", 3: "c", 4: "d"}])
def test_another_number_without_names_is_refused(categories: dict[Any, str]) -> None:
    with pytest.raises(EvaluationError, match=r"categories .*the model has 3.*--class-names"):
        match(categories, None)


def test_roboflows_own_category_is_left_out_where_it_is_empty() -> None:
    categories = {0: "shapes", 1: "a", 2: "b", 3: "c"}
    found = match(categories, None, empty=(0,))
    assert (found.class_of, found.names) == ({"1": 0, "2": 1, "3": 2}, ("a", "b", "c"))
    assert "Roboflow" in found.notes[0]
    with pytest.raises(EvaluationError):
        match(categories, None)


def test_two_categories_of_one_name_are_one_class() -> None:
    categories = [{"id": number, "name": "helmet"} for number in (0, 1)]
    found = match_categories(categories, {"1": 3}, ("helmet",), 1, "a.json")
    assert found.class_of == {"0": 0, "1": 0}
