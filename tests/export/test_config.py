"""A user types what upstream's export tool takes, and mistakes are answered with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2serve.export.config import load_config
from d2serve.export.errors import ConfigError

ZOO_NAME = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
IMPORTS = ("tests.export.custom_modules",)


def test_overrides_follow_the_config(tiny_config: Path) -> None:
    cfg = load_config(str(tiny_config), ["INPUT.MIN_SIZE_TEST", "77"])
    assert cfg.INPUT.MIN_SIZE_TEST == 77
    assert cfg.INPUT.MAX_SIZE_TEST == 160
    assert cfg.is_frozen()


def test_a_zoo_name_takes_the_trained_weights_of_the_zoo() -> None:
    cfg = load_config(ZOO_NAME, [])
    assert cfg.MODEL.MASK_ON
    assert cfg.MODEL.WEIGHTS.endswith("/model_final_f10217.pkl")


def test_overridden_weights_win_over_the_zoos() -> None:
    assert load_config(ZOO_NAME, ["MODEL.WEIGHTS", "mine.pth"]).MODEL.WEIGHTS == "mine.pth"


def test_the_cpu_is_used_where_the_config_only_defaults_to_cuda() -> None:
    import torch

    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert expected == load_config(ZOO_NAME, []).MODEL.DEVICE


def test_keys_of_an_imported_project_are_known(tmp_path: Path) -> None:
    config = tmp_path / "custom.yaml"
    config.write_text("MODEL:\n  CUSTOM_DEPTH: 5\n")
    assert load_config(str(config), [], IMPORTS).MODEL.CUSTOM_DEPTH == 5
    with pytest.raises(ConfigError, match=r"CUSTOM_DEPTH.*--import"):
        load_config(str(config), [])


@pytest.mark.parametrize(
    ("config_file", "overrides", "imports", "message"),
    [
        ("no/such.yaml", [], [], "neither a file nor a name in the model zoo"),
        ("lazy.py", [], [], "LazyConfig"),
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
        load_config(config_file, overrides, imports)


def test_a_damaged_yaml_is_a_config_error(tmp_path: Path) -> None:
    config = tmp_path / "broken.yaml"
    config.write_text("MODEL: [unclosed")
    with pytest.raises(ConfigError, match="cannot be merged"):
        load_config(str(config), [])
