"""A user types what upstream's export tool takes, and mistakes are answered with a sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from d2serve.export.errors import ConfigError
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.config_loading import load_config

ZOO_NAME = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
IMPORTS = ("tests.export.custom_modules",)


def read(config_file: Path | str, *overrides: str, imports: Sequence[str] = ()) -> ModelConfig:
    return load_config(ConfigSource(str(config_file), overrides, imports))


def cfg_of(config: ModelConfig) -> Any:
    assert config.cfg is not None
    return config.cfg


def test_overrides_follow_the_config(tiny_config: Path) -> None:
    config = read(tiny_config, "INPUT.MIN_SIZE_TEST", "77")
    assert (config.min_size_test, config.max_size_test) == (77, 160)
    assert cfg_of(config).INPUT.MIN_SIZE_TEST == 77
    assert cfg_of(config).is_frozen()


def test_a_zoo_name_takes_the_trained_weights_of_the_zoo() -> None:
    config = read(ZOO_NAME)
    assert cfg_of(config).MODEL.MASK_ON
    assert config.weights.endswith("/model_final_f10217.pkl")
    assert config.weights == cfg_of(config).MODEL.WEIGHTS


def test_overridden_weights_win_over_the_zoos() -> None:
    assert read(ZOO_NAME, "MODEL.WEIGHTS", "mine.pth").weights == "mine.pth"


def test_the_cpu_is_used_where_the_config_only_defaults_to_cuda() -> None:
    import torch

    config = read(ZOO_NAME)
    assert config.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert config.device == cfg_of(config).MODEL.DEVICE


def test_what_the_config_says_of_images_and_data_sets(tiny_config: Path) -> None:
    overrides = ("INPUT.FORMAT", "RGB", "DATASETS.TEST", "('x',)", "DATASETS.TRAIN", "('y', 'z')")
    config = read(tiny_config, *overrides)
    assert config.image_format == "RGB"
    assert config.test_datasets == ("x",)
    assert config.train_datasets == ("y", "z")


def test_keys_of_an_imported_project_are_known(tmp_path: Path) -> None:
    config = tmp_path / "custom.yaml"
    config.write_text("MODEL:\n  CUSTOM_DEPTH: 5\n")
    assert cfg_of(read(config, imports=IMPORTS)).MODEL.CUSTOM_DEPTH == 5
    assert cfg_of(read(config)).MODEL.CUSTOM_DEPTH == 5  # as it stands, for code that reads it
    (note,) = read(config).notes
    assert re.search(r"MODEL\.CUSTOM_DEPTH.*--import", note)


@pytest.mark.parametrize(
    ("config_file", "overrides", "imports", "message"),
    [
        ("no/such.yaml", [], [], "neither a file nor a name in the model zoo"),
        ("no_such.py", [], [], r"no_such\.py is neither a file nor a name.*LazyConfig"),
        (ZOO_NAME, ["MODEL.WEIGHTS"], [], "KEY VALUE pairs; got 1 words"),
        (ZOO_NAME, ["MODEL.WIGHTS", "x"], [], "override does not fit"),
        (ZOO_NAME, ["INPUT.MIN_SIZE_TEST", "large"], [], "override does not fit"),
        (ZOO_NAME, [], ["no_such_module"], "--import no_such_module: cannot be imported"),
    ],
)
def test_a_mistake_is_named(
    config_file: str, overrides: list[str], imports: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(config_file, *overrides, imports=imports)


def test_a_damaged_yaml_is_a_config_error(tmp_path: Path) -> None:
    config = tmp_path / "broken.yaml"
    config.write_text("MODEL: [unclosed")
    with pytest.raises(ConfigError, match=r"broken\.yaml, line 1: this is no YAML"):
        read(config)
