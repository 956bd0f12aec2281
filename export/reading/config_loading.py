"""Loads the config that a user names: YAML, a LazyConfig, a pickle, or a name in the model zoo.

Modules of the user's own are imported first, since a config may name what they register.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from detectron2 import model_zoo

from d2serve.export.errors import ConfigError, UnsupportedFamily, one_line
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.config_files.bases import with_bases
from d2serve.export.reading.config_files.documents import read_document
from d2serve.export.reading.config_files.lazy_config import read_lazy
from d2serve.export.reading.config_files.pickled import is_pickled, read_pickled
from d2serve.export.reading.config_files.yaml_config import read_yaml
from d2serve.export.reading.image_form import READABLE
from d2serve.export.reading.installation import advice_for
from d2serve.export.rewrites.own_models.deformable_attention import let_projects_be_imported


def load_config(source: ConfigSource) -> ModelConfig:
    """Read a config with detectron2's own readers.

    A model-zoo name takes the zoo's trained weights with it, unless they are overridden. Where the
    config leaves the device at CUDA and there is none, the CPU is used.

    Raises:
        ConfigError: with what does not fit, and what would.
        UnsupportedFamily: the config asks for what no program can answer.
    """
    let_projects_be_imported()
    modules = [_import(name) for name in source.imports]
    path = _locate(source.config_file)
    zoo_weights = None if Path(source.config_file).is_file() else _zoo_weights(source.config_file)
    config = _with_trained(_read(source, path, zoo_weights, modules), source, path)
    if config.image_format not in READABLE:
        raise UnsupportedFamily(
            f"The image format is {config.image_format}; what is served takes "
            f"{', '.join(READABLE)}. Of other bands, more than three, leave it at BGR: they are "
            "taken as they are."
        )
    return config


def _read(
    source: ConfigSource, path: Path, zoo_weights: str | None, modules: list[ModuleType]
) -> ModelConfig:
    if path.suffix == ".py":
        return read_lazy(source, path, zoo_weights, None)
    if is_pickled(path):
        return read_yaml(source, read_pickled(path), zoo_weights, modules)
    content = read_document(str(path), source.own_packages)
    # LazyConfig.save writes such a file; configs of yacs have MODEL.
    if isinstance(content.get("model"), dict) and "MODEL" not in content:
        return read_lazy(source, path, zoo_weights, content)
    return read_yaml(source, with_bases(str(path), content), zoo_weights, modules)


def _with_trained(config: ModelConfig, source: ConfigSource, path: Path) -> ModelConfig:
    """The config with a note of the weights that training left beside it.

    A trainer's config.yaml names the weights that its training began with.
    """
    names_weights = ("MODEL.WEIGHTS", "train.init_checkpoint")
    if any(override.startswith(names_weights) for override in source.overrides):
        return config
    trained = path.parent / "model_final.pth"
    tag = path.parent / "last_checkpoint"
    if tag.is_file():
        with contextlib.suppress(OSError, UnicodeDecodeError, ValueError):
            trained = path.parent / Path(tag.read_text().strip()).name
    if not trained.is_file() or trained.name == Path(config.weights).name:
        return config
    note = (
        f"{path} names the weights {config.weights or '(none)'}, and {trained} lies beside it. A "
        "trainer writes into its config what it began with. For what it trained, add "
        f"{'train.init_checkpoint=' if config.cfg is None else 'MODEL.WEIGHTS '}{trained}"
    )
    return replace(config, trained_weights=str(trained), notes=(*config.notes, note))


def _import(name: str) -> ModuleType:
    # As `python -m` would: modules beside the user are found.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        advice = advice_for(error) or (
            "Give the module's dotted name, and install it or run from the folder that holds it."
        )
        raise ConfigError(
            f"--import {name}: cannot be imported from {Path.cwd()} "
            f"({type(error).__name__}: {one_line(error)}). {advice}"
        ) from error


def _locate(config_file: str) -> Path:
    path = Path(config_file)
    if path.is_file():
        return path
    if path.is_dir():
        inside = sorted(each.name for each in path.iterdir() if each.suffix in (".yaml", ".py"))
        raise ConfigError(
            f"{config_file} is a folder, expected a config file. "
            + (f"It has {', '.join(inside[:5])}." if inside else "It has none in it.")
        )
    try:
        return Path(model_zoo.get_config_file(config_file))
    except RuntimeError:
        raise ConfigError(
            f"{config_file} is neither a file nor a name in the model zoo. Expected a path to a "
            "YAML config or a LazyConfig, or a name such as "
            "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml."
        ) from None


def _zoo_weights(name: str) -> str | None:
    try:
        url: str = model_zoo.get_checkpoint_url(name)
    except RuntimeError:  # a config without published weights
        return None
    return url
