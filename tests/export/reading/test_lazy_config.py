"""A LazyConfig works as YAML does: what it says is read, what it does not say is asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate

from d2serve.export.errors import ConfigError, ExportError, UnsupportedFamily, WeightsError
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import family_of
from d2serve.export.reading.weights import build_model, load_model
from d2serve.handlers.requests.decoding import decode
from tests.conftest import HeldOut, config_of, source_of

FCOS = "COCO-Detection/fcos_R_50_FPN_1x.py"
YAML = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
RESIZE = "L(T.ResizeShortestEdge)(short_edge_length=192, max_size=272)"
CONFIG = """
import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.data import DatasetMapper
from torch import nn

model = L(nn.Linear)(in_features=2, out_features=3)
train = {{"init_checkpoint": "trained.pth", "device": "cpu"}}
dataloader = {{
    "train": {{"dataset": {{"names": ["a", "b"]}}}},
    "test": {{
        "dataset": {{"names": "c"}},
        "mapper": L(DatasetMapper)(
            is_train=False, augmentations=[{augmentations}], image_format="{format}"
        ),
    }},
}}
"""


def written(folder: Path, augmentations: str = RESIZE, image_format: str = "RGB") -> str:
    """A LazyConfig with a test mapper; the model is small enough to build at once."""
    file = folder / "lazy.py"
    file.write_text(CONFIG.format(augmentations=augmentations, format=image_format))
    return str(file)


def of_text(folder: Path, text: str) -> str:
    file = folder / "lazy.py"
    file.write_text(text)
    return str(file)


def test_everything_is_read_from_the_config_itself(tmp_path: Path) -> None:
    config = load_config(ConfigSource(written(tmp_path)))
    assert config.cfg is None
    assert config.image_format == "RGB"
    assert (config.min_size_test, config.max_size_test) == (192, 272)
    assert (config.weights, config.device) == ("trained.pth", "cpu")
    assert (config.test_datasets, config.train_datasets) == (("c",), ("a", "b"))
    assert isinstance(config.build(), torch.nn.Linear)


def test_overrides_reach_every_depth(tmp_path: Path) -> None:
    overrides = (
        "train.init_checkpoint=mine.pth",
        "model.out_features=7",
        "dataloader.test.mapper.image_format=BGR",
        "dataloader.test.dataset.names=[d,e]",
    )
    config = load_config(ConfigSource(written(tmp_path), overrides))
    model = config.build()
    assert isinstance(model, torch.nn.Linear)
    assert model.out_features == 7
    assert config.weights == "mine.pth"
    assert config.image_format == "BGR"
    assert config.test_datasets == ("d", "e")


def test_a_name_of_the_zoo_is_found() -> None:
    config = load_config(ConfigSource(FCOS, ("model.num_classes=3", "train.device=cpu")))
    assert config.image_format == "BGR"  # by reference to the mapper for training
    assert (config.min_size_test, config.max_size_test) == (800, 1333)
    assert config.test_datasets == ("coco_2017_val",)
    family = family_of(build_model(config))
    assert (family.name, family.num_classes) == ("FCOS", 3)
    assert (family.score_thresh, family.nms_thresh) == (0.2, 0.6)


def test_a_name_of_the_zoo_takes_the_zoos_trained_weights() -> None:
    name = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py"
    assert load_config(ConfigSource(name)).weights.endswith("/model_final_a54504.pkl")
    config = load_config(ConfigSource(name, ("train.init_checkpoint=mine.pth",)))
    assert config.weights == "mine.pth"


def test_the_cpu_is_used_where_the_config_only_defaults_to_cuda(tmp_path: Path) -> None:
    assert load_config(ConfigSource(FCOS)).device == (
        "cuda" if torch.cuda.is_available() else "cpu"
    )
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="overridden to cuda, but"):
            load_config(ConfigSource(written(tmp_path), ("train.device=cuda",)))


@pytest.mark.parametrize(
    ("augmentations", "sizes"),
    [
        ("", (0, sys.maxsize)),
        ("L(T.ResizeShortestEdge)(short_edge_length=(192,), max_size=272)", (192, 272)),
        ("L(T.ResizeShortestEdge)(short_edge_length=[192, 192], max_size=272)", (192, 272)),
        ("L(T.ResizeShortestEdge)(short_edge_length=192)", (192, sys.maxsize)),
    ],
)
def test_one_resize_to_one_size_is_understood(
    augmentations: str, sizes: tuple[int, int], tmp_path: Path
) -> None:
    config = load_config(ConfigSource(written(tmp_path, augmentations)))
    assert (config.min_size_test, config.max_size_test) == sizes


@pytest.mark.parametrize(
    ("augmentations", "named"),
    [
        (
            "L(T.ResizeShortestEdge)(short_edge_length=(192, 224), max_size=272)",
            "with ResizeShortestEdge",
        ),
        (f"{RESIZE}, L(T.RandomFlip)()", "with ResizeShortestEdge, RandomFlip"),
        (f"{RESIZE}, {RESIZE}", "with ResizeShortestEdge, ResizeShortestEdge"),
        ("L(T.FixedSizeCrop)(crop_size=(64, 64))", "with FixedSizeCrop"),
    ],
)
def test_any_other_preparation_is_refused_until_the_user_says_so(
    augmentations: str, named: str, tmp_path: Path
) -> None:
    file = written(tmp_path, augmentations)
    with pytest.raises(ConfigError, match=rf"{named}; .*--min-size-test and --max-size-test"):
        load_config(ConfigSource(file))
    config = load_config(ConfigSource(file, min_size_test=160, max_size_test=240))
    assert (config.min_size_test, config.max_size_test) == (160, 240)


MODEL_ONLY = """
from detectron2.config import LazyCall as L
from torch import nn
model = L(nn.Linear)(in_features=2, out_features=3)
train = {"init_checkpoint": "", "device": "cpu"}
"""


def test_without_a_test_mapper_the_user_is_asked(tmp_path: Path) -> None:
    file = of_text(tmp_path, MODEL_ONLY)
    with pytest.raises(ConfigError, match=r"no dataloader\.test\.mapper\.aug.*--min-size-test 800"):
        load_config(ConfigSource(file, image_format="BGR"))
    with pytest.raises(ConfigError, match=r"mapper\.image_format.*--image-format BGR or"):
        load_config(ConfigSource(file, min_size_test=800, max_size_test=1333))
    config = load_config(ConfigSource(file, (), (), 800, 1333, "RGB"))
    assert (config.min_size_test, config.max_size_test, config.image_format) == (800, 1333, "RGB")
    assert (config.test_datasets, config.train_datasets, config.weights) == ((), (), "")
    assert load_config(ConfigSource(file, (), (), 0, 1333, "RGB")).min_size_test == 0


def test_options_come_before_the_mapper(tmp_path: Path) -> None:
    config = load_config(ConfigSource(written(tmp_path), (), (), 100, 150, "BGR"))
    assert (config.min_size_test, config.max_size_test, config.image_format) == (100, 150, "BGR")


def test_both_edges_or_neither(tmp_path: Path) -> None:
    for edges in ((192, None), (None, 272)):
        with pytest.raises(ConfigError, match=r"go together.*give both or neither"):
            load_config(ConfigSource(written(tmp_path), (), (), *edges))


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("min_size_test", 800, r"--min-size-test .*YAML.*INPUT\.MIN_SIZE_TEST 800"),
        ("max_size_test", 1333, r"--max-size-test .*YAML.*INPUT\.MAX_SIZE_TEST 1333"),
        ("image_format", "RGB", r"--image-format .*YAML.*INPUT\.FORMAT RGB"),
    ],
)
def test_yaml_says_it_itself(option: str, value: object, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_config(ConfigSource(YAML, **{option: value}))  # type: ignore[arg-type]


def test_formats_that_no_file_is_read_in(tmp_path: Path) -> None:
    assert load_config(ConfigSource(written(tmp_path, image_format="L"))).image_format == "L"
    with pytest.raises(UnsupportedFamily, match=r"format is HSV; what is served takes BGR, RGB"):
        load_config(ConfigSource(written(tmp_path, image_format="HSV")))


@pytest.mark.parametrize(
    ("text", "overrides", "error", "message"),
    [
        ("raise ValueError('no such luck')", [], ConfigError, r"ValueError: no such luck.*`model`"),
        ("model = (", [], ConfigError, r"cannot be read as a LazyConfig \(SyntaxError"),
        ("import no_such_module", [], ConfigError, "ModuleNotFoundError: No module named"),
        ("train = {'seed': 1}", [], ConfigError, r"has no `model`; it has \['train'\]"),
        (
            CONFIG,
            ["train.init_checkpoint", "x.pth"],
            ConfigError,
            r"are key=value; got train\.init",
        ),
        (CONFIG, ["MODEL.WEIGHTS", "x.pth"], ConfigError, r"are key=value; got MODEL\.WEIGHTS x"),
        (CONFIG, ["train.init_checkpoint=[unclosed"], ConfigError, "cannot be read as a LazyConf"),
        (CONFIG, ["train.device.index=1"], ConfigError, r"train\.device\.index is not in"),
        (CONFIG, ["model.out_featurs=3"], ConfigError, r"cannot build.*out_featurs"),
        (CONFIG, ["train.init_checkpoint="], WeightsError, r"names no.*: train\.init_checkpoint=o"),
        (CONFIG, [], WeightsError, r"trained\.pth cannot be loaded"),
        ("model = {'depth': 3}\n", [], ConfigError, "makes a DictConfig, expected a torch module"),
    ],
)
def test_a_mistake_is_named(
    text: str, overrides: list[str], error: type[ExportError], message: str, tmp_path: Path
) -> None:
    file = of_text(
        tmp_path, text.format(augmentations=RESIZE, format="BGR") if "{{" in text else text
    )
    with pytest.raises(error, match=message):
        load_model(load_config(ConfigSource(file, overrides, (), 192, 272, "BGR")))


def test_the_reference_is_what_the_configs_own_loader_gives_to_its_model(
    held_out: HeldOut,
) -> None:
    """DefaultPredictor takes no LazyConfig, so its place is checked against the config's mapper."""
    lazy = LazyConfig.load(str(config_of("fcos")))
    mapper = instantiate(lazy.dataloader.test.mapper)
    config = load_config(source_of("fcos"))
    oracle = Oracle(config)
    model = load_model(config)
    found = 0
    for file in held_out.images[:4]:
        pixels = decode(file.read_bytes())
        mapped = mapper(
            {"file_name": str(file), "height": pixels.shape[0], "width": pixels.shape[1]}
        )
        given = oracle.model_input(pixels)["image"]
        assert isinstance(given, torch.Tensor)
        assert torch.equal(given, mapped["image"].float())
        with torch.no_grad():
            (expected,) = model([mapped])
        answered = oracle.predict(pixels)["instances"]
        assert torch.equal(answered.pred_boxes.tensor, expected["instances"].pred_boxes.tensor)
        assert torch.equal(answered.scores, expected["instances"].scores)
        found += len(answered)
    assert found >= 8


def test_a_misspelt_key_outside_the_model_is_refused() -> None:
    zoo = "COCO-Detection/fcos_R_50_FPN_1x.py"
    with pytest.raises(ConfigError, match=r"train\.init_checkpont is not in"):
        load_config(ConfigSource(zoo, ("train.init_checkpont=mine.pth",)))
