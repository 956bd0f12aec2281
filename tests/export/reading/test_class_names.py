"""Classes get their names from the user, or from where training left them; never wrong ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from d2serve.export.errors import ConfigError
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.names.class_names import find_names
from d2serve.export.reading.names.forecast import names_foretold
from d2serve.export.reading.names.given import Names, split_names
from d2serve.export.reading.names.sources import FoundNames, of_checkpoint


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
    source = "the metadata of three_things"
    both = Names(("a", "b", "c"), ("things", "d", "e", "f"), source, source)
    assert find_names(with_metadata, 3, 4, None, None) == both
    assert find_names(with_metadata, 3, None, None, None) == Names(both.classes, None, source)
    neither = find_names(with_metadata, 80, 54, None, None)
    assert (neither.classes, neither.stuff) == (None, None)
    assert "three_things names 3 classes (a, b, c), the model has 80" in neither.notes[0]


def test_the_users_names_come_first(with_metadata: ModelConfig, without: ModelConfig) -> None:
    assert find_names(without, 3, 4, None, None) == Names(None, None)
    for config in (with_metadata, without):
        names = find_names(config, 3, 2, ["x", "y", "z"], ["u", "v"])
        options = ("--class-names", "--stuff-class-names")
        assert names == Names(("x", "y", "z"), ("u", "v"), *options)


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


Configs = Callable[[Sequence[str], Sequence[str]], ModelConfig]


@pytest.fixture
def trained_on(tiny_config: Path) -> Configs:
    """``trained_on(training sets, test sets)`` is a config that names them."""

    def config(training: Sequence[str], test: Sequence[str]) -> ModelConfig:
        words = ("DATASETS.TRAIN", repr(tuple(training)), "DATASETS.TEST", repr(tuple(test)))
        return load_config(ConfigSource(str(tiny_config), words))

    return config


@pytest.fixture
def named(request: pytest.FixtureRequest) -> Callable[..., str]:
    """Gives a data set of this test's own its metadata."""

    def name(what: str, **metadata: Any) -> str:
        dataset = f"{request.node.name}_{what}"
        MetadataCatalog.get(dataset).set(**metadata)
        request.addfinalizer(lambda: MetadataCatalog.pop(dataset, None))
        return dataset

    return name


def coco_file(folder: Path, *names: str) -> Path:
    file = folder / "annotations.json"
    # By rising id, as detectron2 loads them, and not in the order of the file.
    categories = [{"id": n, "name": name} for n, name in enumerate(names)][::-1]
    file.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    return file


def test_a_coco_file_is_read_that_nobody_has_loaded(
    trained_on: Configs, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dataset = request.node.name
    register_coco_instances(dataset, {}, str(coco_file(tmp_path, "x", "y", "z")), "none")
    try:
        names = find_names(trained_on([dataset], []), 3, None, None, None)
    finally:
        DatasetCatalog.remove(dataset)
        MetadataCatalog.remove(dataset)
    source = f"annotations.json, the json_file of {dataset}"
    assert names == Names(("x", "y", "z"), None, source)


def test_a_coco_file_that_is_not_there_names_nothing(
    trained_on: Configs, named: Callable[..., str]
) -> None:
    dataset = named("train", json_file="/no/such.json")
    assert find_names(trained_on([dataset], []), 3, None, None, None).classes is None


@pytest.mark.parametrize(
    ("leftover", "count"),
    [("keypoints_coco_2017_val", 1), ("voc_2007_test", 20), ("coco_2017_val", 80)],
)
def test_the_training_set_names_the_classes_and_not_a_test_set_of_the_zoo(
    leftover: str, count: int, trained_on: Configs, named: Callable[..., str]
) -> None:
    own = [f"mine {number}" for number in range(count)]
    dataset = named("train", thing_classes=own)
    names = find_names(trained_on([dataset], [leftover]), count, None, None, None)
    assert names.classes == tuple(own)
    assert names.classes_from == f"the metadata of {dataset}"
    assert leftover in names.notes[0]
    assert "training set are taken" in names.notes[0]


def test_a_test_set_of_the_zoo_names_nothing_of_a_training_set_that_is_not_known(
    trained_on: Configs,
) -> None:
    names = find_names(trained_on(["hands"], ["keypoints_coco_2017_val"]), 1, None, None, None)
    assert names.classes is None
    assert "trained on hands" in names.notes[0]
    assert "--import" in names.notes[0]
    of_the_zoo = trained_on(["keypoints_coco_2017_train"], ["keypoints_coco_2017_val"])
    assert find_names(of_the_zoo, 1, None, None, None).classes == ("person",)


def test_a_test_set_of_the_users_own_names_the_classes(
    trained_on: Configs, named: Callable[..., str]
) -> None:
    test = named("val", thing_classes=["hand"])
    assert find_names(trained_on(["hands"], [test]), 1, None, None, None).classes == ("hand",)


def test_sources_that_disagree_stop_the_export_and_both_are_given_to_choose(
    trained_on: Configs, named: Callable[..., str], tmp_path: Path
) -> None:
    first = named("a", thing_classes=["x", "y, z"])
    second = named("b", thing_classes=["y, z", "x"])
    options = r"""--class-names 'x,"y, z"' or --class-names '"y, z",x"""
    with pytest.raises(ConfigError, match=options):
        find_names(trained_on([first, second], []), 2, None, None, None)
    file = coco_file(tmp_path, "y, z", "x")
    both = named("c", thing_classes=["x", "y, z"], json_file=str(file))
    with pytest.raises(ConfigError, match=r"metadata of .* and in annotations\.json"):
        find_names(trained_on([both], []), 2, None, None, None)
    in_weights = FoundNames(("p", "q"), "CLASSES of the weights file")
    with pytest.raises(ConfigError, match=r"CLASSES of the weights file \(p, q\)"):
        find_names(trained_on([first], []), 2, None, None, None, in_weights)
    given = find_names(trained_on([first, second], []), 2, None, ["u", "v"], None, in_weights)
    assert given.classes == ("u", "v")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"model": {}, "class_names": ["cat", "dog"]}, ("cat", "dog")),
        ({"hyper_parameters": {"class_names": ("cat", "dog")}}, ("cat", "dog")),
        ({"meta": {"CLASSES": ("cat",)}}, ("cat",)),
        ({"meta": {"dataset_meta": {"classes": ["cat"]}}}, ("cat",)),
        ({"id2label": {0: "cat", 1: "dog"}}, ("cat", "dog")),
        ({"names": {"1": "dog", "0": "cat"}}, ("cat", "dog")),
        ({"names": {1: "dog", 2: "cat"}}, None),
        ({"class_names": 3, "meta": None, "hyper_parameters": []}, None),
        ({"class_names": [1, 2]}, None),
        ({"class_names": []}, None),
    ],
)
def test_names_in_a_checkpoint(content: Any, names: tuple[str, ...] | None) -> None:
    found = of_checkpoint(content)
    assert (None if found is None else found.names) == names


def test_a_checkpoint_names_the_classes_where_no_data_set_does(without: ModelConfig) -> None:
    found = FoundNames(("x", "y"), "hyper_parameters.class_names of the weights file")
    names = find_names(without, 2, None, None, None, found)
    assert (names.classes, names.classes_from) == (found.names, found.source)
    labels = find_names(without, None, 2, None, None, found)
    assert (labels.classes, labels.stuff) == (None, found.names)


def test_the_names_are_foretold(without: ModelConfig, with_metadata: ModelConfig) -> None:
    assert list(names_foretold(with_metadata, 3, None)) == [
        "The classes will be named a, b, c (from the metadata of three_things)."
    ]
    (unnamed,) = names_foretold(without, 3, None)
    assert "--class-names" in unnamed
