"""Classes get their names from the user, or else from the data sets' metadata; never wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.data import MetadataCatalog

from d2serve.export.errors import ConfigError
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.names.class_names import Names, find_names, split_names


@pytest.fixture
def with_metadata(tiny_config: Path) -> ModelConfig:
    """A config whose test data set names three things and four labels."""
    metadata = MetadataCatalog.get("three_things")
    metadata.set(thing_classes=["a", "b", "c"], stuff_classes=["things", "d", "e", "f"])
    overrides = ("DATASETS.TEST", "('three_things',)")
    return load_config(ConfigSource(str(tiny_config), overrides))


@pytest.fixture
def without(tiny_config: Path) -> ModelConfig:
    """A config that names no data set."""
    return load_config(ConfigSource(str(tiny_config)))


def test_names_come_from_the_metadata_where_they_are_as_many(with_metadata: ModelConfig) -> None:
    both = Names(("a", "b", "c"), ("things", "d", "e", "f"))
    assert find_names(with_metadata, 3, 4, None, None) == both
    assert find_names(with_metadata, 3, None, None, None) == Names(("a", "b", "c"), None)
    assert find_names(with_metadata, 80, 54, None, None) == Names(None, None)


def test_the_users_names_come_first(with_metadata: ModelConfig, without: ModelConfig) -> None:
    assert find_names(without, 3, 4, None, None) == Names(None, None)
    for config in (with_metadata, without):
        names = find_names(config, 3, 2, ["x", "y", "z"], ["u", "v"])
        assert names == Names(("x", "y", "z"), ("u", "v"))


def test_as_many_names_as_classes_or_none(without: ModelConfig) -> None:
    with pytest.raises(ConfigError, match=r"^--class-names has 2 names, the model has 3 classes"):
        find_names(without, 3, None, ["x", "y"], None)
    with pytest.raises(ConfigError, match=r"--stuff-class-names has 1 names, the model has 2"):
        find_names(without, 3, 2, None, ["x"])


def test_names_of_what_the_model_does_not_tell_apart_are_refused(without: ModelConfig) -> None:
    with pytest.raises(ConfigError, match=r"--stuff-class-names was given.*no semantic"):
        find_names(without, 3, None, None, ["x"])
    with pytest.raises(ConfigError, match=r"--class-names was given.*no instances"):
        find_names(without, None, None, ["x"], None)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat,dog", ["cat", "dog"]),
        ("cat, dog ,  bird", ["cat", "dog", "bird"]),
        ("traffic light, stop sign", ["traffic light", "stop sign"]),
        ('cat, "dog, wild", bird', ["cat", "dog, wild", "bird"]),
        ('"6"" pipe"', ['6" pipe']),
        ("cat", ["cat"]),
        ("cat,,dog", ["cat", "", "dog"]),
        ("", [""]),
    ],
)
def test_names_on_a_command_line(text: str, names: list[str]) -> None:
    assert split_names("--class-names", text) == names


@pytest.mark.parametrize("text", ['cat, "dog', 'cat, "dog" wild', "cat\ndog"])
def test_quotes_that_are_not_closed_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r'^--class-names .*a comma in it.*"dog, wild"'):
        split_names("--class-names", text)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["x", "", "z"], r"name 2 is empty.*comma too many"),
        (["x", "y", "  "], r"name 3 is empty"),
        (["x", "y", " x"], r"'x' is given twice, for classes 0 and 2"),
    ],
)
def test_a_name_for_each_class_and_a_class_for_each_name(
    given: list[str], message: str, without: ModelConfig
) -> None:
    with pytest.raises(ConfigError, match=rf"^--class-names: {message}"):
        find_names(without, 3, None, given, None)
    with pytest.raises(ConfigError, match=rf"^--stuff-class-names: {message}"):
        find_names(without, None, 3, None, given)


def test_spaces_around_a_name_are_no_part_of_it(without: ModelConfig) -> None:
    assert find_names(without, 2, None, ["cat", " dog "], None).classes == ("cat", "dog")
