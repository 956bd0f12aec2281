"""Configs as training and scripts write them are read, as data: what would run code is refused."""

from __future__ import annotations

import functools
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from detectron2.config import CfgNode, LazyCall, LazyConfig, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN, GeneralizedRCNN
from detectron2.modeling.backbone.resnet import BottleneckBlock, ResNet
from torch import nn

from d2serve.export.errors import ConfigError
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.weights import build_model, load_model


def read(file: Path | str, *overrides: str, imports: tuple[str, ...] = ()) -> ModelConfig:
    return load_config(ConfigSource(str(file), overrides, imports))


def written(folder: Path, text: str, name: str = "config.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def cfg_of(config: ModelConfig) -> Any:
    assert config.cfg is not None
    return config.cfg


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.mkdir [{made}]",
        "!!python/object/new:os.mkdir [{made}]",
        "!!python/object/apply:pathlib.Path.mkdir [{made}]",
        '!!python/object/apply:builtins.eval [\'__import__("os").mkdir("{made}")\']',
        "!!python/object/apply:torch.load [{made}]",
        "!!python/object/apply:detectron2.layers.wrappers.sys.exit [3]",
        "!!python/object/new:functools.partial {{state: !!python/tuple [1, 2]}}",
        "!!python/object:subprocess.Popen {{args: x}}",
        "!!python/module:antigravity",
        "!Env {made}",
    ],
)
@pytest.mark.parametrize("inherited", [False, True])
def test_a_yaml_that_would_run_code_is_refused_by_name_and_line(
    tag: str, inherited: bool, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    evil = written(tmp_path, f"SEED: 1\nOUTPUT_DIR: {tag.format(made=made)}\n", "evil.yaml")
    file = written(tmp_path, "_BASE_: evil.yaml\n") if inherited else evil
    with pytest.raises(ConfigError, match=r"evil\.yaml, line 2: .*(python/|!Env).*data here"):
        read(file)
    assert not made.exists()


def test_a_lazy_yaml_calls_only_parts_of_models(tmp_path: Path) -> None:
    made = tmp_path / "made"
    for target, named in (
        ("os.mkdir", "os.mkdir"),
        ("detectron2.config.LazyConfig.load", "LazyConfig.load"),
        ("torch.nn.modules.utils.collections.abc", "collections"),
        ("timm.models.create_model", "create_model"),
        ("mine.MyModel", "mine.MyModel"),
    ):
        file = written(tmp_path, f"model: {{_target_: {target}, path: {made}}}\n")
        config = load_config(ConfigSource(str(file), (), (), 96, 160, "BGR"))
        with pytest.raises(ConfigError, match=rf"{named}.*--import"):
            build_model(config)
    assert not made.exists()


def test_a_lazy_yaml_names_what_is_imported(tmp_path: Path) -> None:
    target = "tests.export.custom_modules.PlainBackbone"
    file = written(tmp_path, f"model: {{_target_: {target}}}\n")
    imports = ("tests.export.custom_modules",)
    config = load_config(ConfigSource(str(file), (), imports, 96, 160, "BGR"))
    assert type(build_model(config)).__name__ == "PlainBackbone"


def test_what_lazy_training_writes_is_read_as_it_was(tmp_path: Path) -> None:
    stages = [
        LazyCall(ResNet.make_stage)(
            block_class=BottleneckBlock,
            num_blocks=1,
            stride_per_block=[1],
            in_channels=8,
            bottleneck_channels=4,
            out_channels=8,
            norm="BN",
        )
    ]
    lazy = {
        "model": LazyCall(FPN)(
            bottom_up=LazyCall(ResNet)(
                stem=LazyCall(nn.Conv2d)(in_channels=3, out_channels=8, kernel_size=1),
                stages=stages,
                out_features=["res2"],
            ),
            in_features="${.bottom_up.out_features}",
            out_channels=8,
        ),
        "norm": functools.partial(nn.LayerNorm, eps=1e-6),
        "shape": ShapeSpec(channels=8),
        "device": torch.device("cpu"),
        "train": {"device": "cpu", "init_checkpoint": "x.pth"},
    }
    from omegaconf import OmegaConf

    config = OmegaConf.create(lazy, flags={"allow_objects": True})
    file = tmp_path / "config.yaml"
    LazyConfig.save(config, str(file))
    assert "!!python/" in file.read_text()
    from d2serve.export.reading.config_files.documents import read_document

    content = read_document(str(file))
    assert content["norm"].func is nn.LayerNorm
    assert content["norm"].keywords == {"eps": 1e-6}
    assert content["shape"] == ShapeSpec(channels=8)
    assert content["device"] == torch.device("cpu")
    assert content["model"]["bottom_up"]["stages"][0]["block_class"] is BottleneckBlock
    assert content["model"]["in_features"] == "${.bottom_up.out_features}"


def test_the_yaml_of_lazy_training_works_as_its_python(tmp_path: Path) -> None:
    from tests.conftest import config_of, source_of

    lazy = LazyConfig.load(str(config_of("fcos")))
    lazy.train.init_checkpoint = load_config(source_of("fcos")).weights
    file = tmp_path / "config.yaml"
    LazyConfig.save(lazy, str(file))
    got, expected = load_model(read(file)), load_model(load_config(source_of("fcos")))
    assert got.state_dict().keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, got.state_dict()[name])
    assert read(file, "model.num_classes=7").build() is not None


def test_tuples_and_pickled_nodes_are_data(tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.DATASETS.TEST = ("mine",)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 7
    file = written(tmp_path, yaml.dump(cfg))
    assert "!!python/object/new:" in file.read_text()
    assert "CfgNode" in file.read_text()
    read_cfg = cfg_of(read(file))
    assert read_cfg.MODEL.ROI_HEADS.NUM_CLASSES == 7
    assert read_cfg.DATASETS.TEST == ("mine",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["OD_cfg.pickle", "cfg.pkl"])
def test_a_pickled_config_is_read_without_running_it(
    name: str, protocol: int, tiny_config: Path, tmp_path: Path
) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(str(tiny_config))
    file = tmp_path / name
    file.write_bytes(pickle.dumps(cfg, protocol=protocol))
    assert cfg_of(read(file)) == cfg_of(read(tiny_config))


class _Runs:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (str(self._folder),)


def test_a_pickled_config_that_holds_code_is_refused(tmp_path: Path) -> None:
    cfg, made = get_cfg(), tmp_path / "made"
    dict.__setitem__(cfg, "X", _Runs(made))
    file = tmp_path / "cfg.pickle"
    file.write_bytes(pickle.dumps(cfg))
    with pytest.raises(ConfigError, match=r"posix\.mkdir.*cfg\.dump\(\)"):
        read(file)
    assert not made.exists()


def test_keys_that_detectron2_does_not_know_are_named(tiny_config: Path, tmp_path: Path) -> None:
    text = f"_BASE_: {tiny_config}\nOF_ANOTHER_VERSION: ''\nDATASETS:\n  VAL: ('x',)\n"
    config = read(written(tmp_path, text + "TEST:\n  DETECTIONS_PER_IMGE: 5\n"))
    (note,) = config.notes
    for key in ("OF_ANOTHER_VERSION", "DATASETS.VAL", "TEST.DETECTIONS_PER_IMGE"):
        assert key in note
    assert "or is it TEST.DETECTIONS_PER_IMAGE, misspelt?" in note
    assert cfg_of(config).DATASETS.VAL == ("x",)
    load_model(config)
    with pytest.raises(ConfigError, match=r"override does not fit.*DATASETS\.VALL"):
        read(tiny_config, "DATASETS.VALL", "('x',)")


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("DATASETS:\n  TEST: null\n  TRAIN: null\n", "SEED", -1),
        ("MINE:\n  A: '{1, 2}'\n", "MINE", {"A": "{1, 2}"}),
        ("MINE: '{1, 2}'\n", "MINE", "{1, 2}"),
        ("MINE: 2024-02-03\n", "MINE", "2024-02-03"),
        ("MINE: [1j, !!set {a}]\n", "MINE", ["1j", "{'a'}"]),
    ],
)
def test_values_that_yacs_could_not_write_are_texts(
    text: str, key: str, value: Any, tmp_path: Path
) -> None:
    config = read(written(tmp_path, text))
    assert cfg_of(config)[key] == value
    assert config.test_datasets == ()
    assert config.resolved


@pytest.mark.parametrize("device", ["cuda:7", "mps", "cuda", "cpu"])
def test_the_device_of_another_machine_is_not_asked_for(device: str, tmp_path: Path) -> None:
    config = read(written(tmp_path, f"MODEL: {{DEVICE: '{device}'}}\n"))
    assert config.device in ("cpu", "cuda")
    if not torch.cuda.is_available() and device != "cpu":
        with pytest.raises(ConfigError, match=f"overridden to {device}"):
            read(written(tmp_path, "SEED: 1\n"), "MODEL.DEVICE", device)


def test_a_config_of_version_1_is_brought_up_to_date(tmp_path: Path) -> None:
    file = written(tmp_path, "MODEL:\n  WEIGHT: old.pth\nTEST:\n  AUG_ON: False\nNEW: 1\n")
    config = read(file)
    assert config.weights == "old.pth"
    assert config.unknown_keys == ("NEW",)


def test_a_head_that_is_not_registered_is_said_with_the_keys_that_it_brought(
    tiny_config: Path, tmp_path: Path
) -> None:
    text = "MODEL:\n  ROI_HEADS:\n    NAME: TheirHeads\n  THEIRS:\n    DEPTH: 3\n"
    file = written(tmp_path, f"_BASE_: {tiny_config}\n{text}")
    with pytest.raises(ConfigError, match=r"TheirHeads is not reg.*--import.*MODEL\.THEIRS\.DEPTH"):
        read(file)


def test_a_get_cfg_of_their_own_gives_its_keys_and_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def own() -> CfgNode:
        cfg = get_cfg()
        cfg.MODEL.THEIRS = CfgNode({"DEPTH": 3, "WIDTH": 2})
        cfg.MODEL.FPN.OUT_CHANNELS = 99
        return cfg

    package, config_module = ModuleType("their_project"), ModuleType("their_project.config")
    package.__path__ = []
    config_module.__spec__ = None
    config_module.get_cfg = own  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_project", package)
    monkeypatch.setitem(sys.modules, "their_project.config", config_module)
    file = written(tmp_path, "MODEL:\n  THEIRS:\n    DEPTH: 5\n")
    config = read(file, imports=("their_project.config",))
    assert config.notes == ()
    assert cfg_of(config).MODEL.THEIRS == {"DEPTH": 5, "WIDTH": 2}
    assert cfg_of(config).MODEL.FPN.OUT_CHANNELS == 99


def test_detectron2s_own_get_cfg_in_a_module_changes_nothing(tmp_path: Path) -> None:
    file = written(tmp_path, "SEED: 3\n")
    expected = get_cfg()
    expected.SEED = 3
    got = cfg_of(read(file, imports=("tests.export.reading.test_config_files",))).clone()
    got.defrost()
    got.MODEL.DEVICE = expected.MODEL.DEVICE
    assert got == expected


def test_a_class_that_type_made_is_of_the_configs_file(tmp_path: Path) -> None:
    text = (
        "from detectron2.config import LazyCall as L\nfrom torch import nn\n"
        "model = L(type('Mine', (nn.Linear,), {}))(in_features=2, out_features=3)\n"
        "train = {'device': 'cpu'}\n"
    )
    file = written(tmp_path, text, "mine_lazy.py")
    config = load_config(ConfigSource(str(file), (), (), 96, 160, "BGR"))
    assert type(build_model(config)).__module__ == "mine_lazy"
    assert "Mine" in config.resolved


def test_a_wrong_type_says_what_to_write(tiny_config: Path, tmp_path: Path) -> None:
    file = written(tmp_path, f"_BASE_: {tiny_config}\nDATASETS:\n  TRAIN: my_train\n")
    with pytest.raises(ConfigError) as raised:
        read(file)
    for part in ("config.yaml", "DATASETS.TRAIN is my_train (str), expected", "a list"):
        assert part in str(raised.value)
    assert "--import" not in str(raised.value)


def test_a_base_that_was_left_in_the_zoo_is_found_there(tmp_path: Path) -> None:
    file = written(tmp_path, "_BASE_: ../Base-RCNN-FPN.yaml\n")
    with pytest.raises(ConfigError, match=r"is not there.*write _BASE_: .*Base-RCNN-FPN\.yaml"):
        read(file)


def test_a_model_of_lazy_yaml_is_recognised(tmp_path: Path) -> None:
    assert GeneralizedRCNN is not None  # what `model` usually is
    file = written(tmp_path, "model: {depth: 3}\n")
    config = load_config(ConfigSource(str(file), (), (), 96, 160, "BGR"))
    with pytest.raises(ConfigError, match="expected a torch module"):
        build_model(config)
