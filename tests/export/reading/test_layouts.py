"""Weights are found in the layouts that people have; a choice among several is said or asked."""

from __future__ import annotations

import argparse
import datetime
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from safetensors.torch import save_file
from torch import nn

from d2serve.export.errors import WeightsError
from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.weights import LoadedWeights, build_model, load_weights

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def model(tiny_config: Path) -> nn.Module:
    return build_model(load_config(ConfigSource(str(tiny_config))))


@pytest.fixture(scope="module")
def state(tiny_config: Path) -> State:
    content: State = torch.load(tiny_config.with_name("tiny.pth"), weights_only=True)["model"]
    return content


def load(
    tiny_config: Path,
    model: nn.Module,
    weights: Path | str,
    key: str | None = None,
    trust: bool = False,
) -> LoadedWeights:
    """Load into the model, from which everything is wiped first."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    source = ConfigSource(
        str(tiny_config), ("MODEL.WEIGHTS", str(weights)), trust_weights=trust, weights_key=key
    )
    return load_weights(model, load_config(source))


def halved(state: State) -> State:
    return {
        name: tensor * 0.5 if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }


def below(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def wrapped_inside(state: State) -> State:
    return {name.replace("backbone.", "backbone._orig_mod."): each for name, each in state.items()}


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "DataParallel": lambda state: {"model": below("module.", state)},
    "torch.compile": lambda state: {"model": below("_orig_mod.", state)},
    "both": lambda state: {"model": below("module._orig_mod.", state)},
    "both, the other way": lambda state: {"model": below("_orig_mod.module.", state)},
    "a compiled backbone": lambda state: {"model": wrapped_inside(state)},
    "bare and compiled": lambda state: below("_orig_mod.", state),
    "Lightning": lambda state: {
        "state_dict": {**below("model.", state), "criterion.weight": torch.ones(4)},
        "epoch": 3,
        "pytorch-lightning_version": "2.1.0",
    },
    "Lightning with another attribute": lambda state: {"state_dict": below("net.detector.", state)},
    "mmdetection": lambda state: {"state_dict": dict(state), "meta": {"CLASSES": ("a", "b", "c")}},
    "an average alone": lambda state: {"model_ema": dict(state), "epoch": 3},
    "below another": lambda state: {"model": {"state_dict": dict(state)}},
    "numpy's scalars": lambda state: {
        "model": state,
        "best": np.float64(41.5),
        "curve": np.arange(3),
        "iteration": np.int64(7),
    },
    "a script's arguments": lambda state: {
        "model": state,
        "args": argparse.Namespace(lr=0.1, output=PosixPath("out/x")),
        "date": datetime.datetime(2025, 1, 1),
    },
    "a config": lambda state: {"model": state, "cfg": get_cfg()},
    "an optimizer": lambda state: {
        "model": state,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
    },
    "weights of classes beside": lambda state: {
        "state_dict": dict(state),
        "class_weights": torch.ones(3),
    },
    "half": lambda state: {
        "model": {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_the_same_weights(
    layout: str, tiny_config: Path, model: nn.Module, state: State, tmp_path: Path
) -> None:
    file = tmp_path / "model.pth"
    torch.save(LAYOUTS[layout](state), file)
    load(tiny_config, model, file)
    for name, tensor in model.state_dict().items():
        if name in state:
            assert torch.allclose(tensor, state[name], atol=2e-2 if layout == "half" else 0)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("model.safetensors", lambda state, file: save_file(state, file)),
        ("model.pth", lambda state, file: file.write_bytes(pickle.dumps(dict(state)))),
        ("model.pkl", lambda state, file: file.write_bytes(pickle.dumps({"model": state}))),
        ("model.pkl", lambda state, file: torch.save({"model": state}, file)),
        (
            "model.pkl",
            lambda state, file: file.write_bytes(
                pickle.dumps({name: tensor.numpy() for name, tensor in state.items()})
            ),
        ),
        (
            "model.pth",
            lambda state, file: torch.save(state, file, _use_new_zipfile_serialization=False),
        ),
        ("model.pth?dl=1", lambda state, file: torch.save(state, file)),
        ("model é #1.pth", lambda state, file: torch.save(state, file)),
    ],
)
def test_each_format_is_told_by_its_bytes(
    name: str,
    write: Callable[[State, Path], Any],
    tiny_config: Path,
    model: nn.Module,
    state: State,
    tmp_path: Path,
) -> None:
    write(state, tmp_path / name)
    load(tiny_config, model, tmp_path / name)
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in state.items())


def test_safetensors_keep_their_metadata(
    tiny_config: Path, model: nn.Module, state: State, tmp_path: Path
) -> None:
    save_file(state, tmp_path / "model.safetensors", metadata={"classes": "a,b,c"})
    read = load(tiny_config, model, tmp_path / "model.safetensors")
    assert read.beside == {"metadata": {"classes": "a,b,c"}}


def test_what_stands_beside_is_kept_as_data(
    tiny_config: Path, model: nn.Module, state: State, tmp_path: Path
) -> None:
    file = tmp_path / "model.ckpt"
    content = {
        "state_dict": below("model.", state),
        "hyper_parameters": {"class_names": ["a", "b", "c"]},
        "args": argparse.Namespace(names=("x",)),
        "optimizer_states": [{"state": {}}],
    }
    torch.save(content, file)
    beside = load(tiny_config, model, file).beside
    assert beside["hyper_parameters"] == {"class_names": ["a", "b", "c"]}
    assert beside["args"].names == ("x",)
    assert beside.keys() == {"hyper_parameters", "args"}


def test_tensors_of_no_part_of_the_model_are_named(
    tiny_config: Path,
    model: nn.Module,
    state: State,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "model.pth"
    torch.save({"model": {**state, "mask_iou_head.fc.weight": torch.ones(2, 2)}}, file)
    (note,) = load(tiny_config, model, file).notes
    assert "1 tensors of" in note
    assert "mask_iou_head.fc.weight" in note
    assert "mask_iou_head" not in caplog.text


@pytest.mark.parametrize("average", ["model_ema", "ema_state", "ema.shadow"])
def test_an_average_beside_the_model_is_named_and_can_be_had(
    average: str, tiny_config: Path, model: nn.Module, state: State, tmp_path: Path
) -> None:
    file = tmp_path / "model.pth"
    first, _, second = average.partition(".")
    content: dict[str, Any] = {"model": halved(state)}
    content[first] = {second: dict(state)} if second else dict(state)
    torch.save(content, file)
    (note,) = load(tiny_config, model, file).notes
    assert "'model'" in note
    assert f"--weights-key {average}" in note
    name = "backbone.fpn_lateral2.weight"
    assert torch.equal(model.state_dict()[name], state[name] * 0.5)
    assert load(tiny_config, model, file, average).key == average
    assert torch.equal(model.state_dict()[name], state[name])


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (
            lambda state: {"state_dict": dict(state), "ema_state_dict": halved(state)},
            ("state_dict", "ema_state_dict"),
        ),
        (
            lambda state: {
                "model": {**below("modelTeacher.", state), **below("modelStudent.", halved(state))}
            },
            ("model.modelTeacher", "model.modelStudent"),
        ),
        (
            lambda state: {**below("teacher.", state), **below("student.", halved(state))},
            ("teacher", "student"),
        ),
    ],
)
def test_where_several_fit_the_user_is_asked(
    content: Callable[[State], Any],
    keys: tuple[str, str],
    tiny_config: Path,
    model: nn.Module,
    state: State,
    tmp_path: Path,
) -> None:
    file = tmp_path / "model.pth"
    torch.save(content(state), file)
    with pytest.raises(WeightsError) as raised:
        load(tiny_config, model, file)
    assert all(key in str(raised.value) for key in (*keys, "--weights-key"))
    name = "backbone.fpn_lateral2.weight"
    for key, factor in zip(keys, (1, 0.5)):
        load(tiny_config, model, file, key)
        assert torch.equal(model.state_dict()[name], state[name] * factor)
    with pytest.raises(WeightsError, match=r"--weights-key is nothing, and .* no weights there"):
        load(tiny_config, model, file, "nothing")


class Elsewhere:
    """Of a class that no reader knows."""


@pytest.mark.parametrize("name", ["model.pth", "model.pkl"])
def test_what_holds_code_is_named_in_full_and_plainly(
    name: str, tiny_config: Path, model: nn.Module, state: State, tmp_path: Path
) -> None:
    content = {"model": state, "hook": Elsewhere()}
    if name.endswith("pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / name)
    with pytest.raises(WeightsError) as raised:
        load(tiny_config, model, tmp_path / name)
    message = str(raised.value)
    assert f"({Elsewhere.__module__}.Elsewhere)" in message
    assert "--trust-weights" in message
    assert "\x1b" not in message
    assert "weights_only" not in message


def test_a_whole_model_is_read_where_it_is_trusted(
    tiny_config: Path, model: nn.Module, state: State, tmp_path: Path
) -> None:
    file = tmp_path / "model.pth"
    config = ConfigSource(str(tiny_config))
    whole = build_model(load_config(config))
    whole.load_state_dict(state, strict=False)
    for content in (whole, {"model": whole, "epoch": 3}, {"ema": whole}):
        torch.save(content, file)
        with pytest.raises(WeightsError, match=r"GeneralizedRCNN.*--trust-weights"):
            load(tiny_config, model, file)
        load(tiny_config, model, file, trust=True)
        name = "backbone.fpn_lateral2.weight"
        assert torch.equal(model.state_dict()[name], state[name])


def _npz(file: Path) -> None:
    np.savez(file.open("wb"), x=np.ones(3))


def _zip(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")


def _torchscript(file: Path) -> None:
    with io.BytesIO() as buffer:
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
        file.write_bytes(buffer.getvalue())


def _cut(file: Path) -> None:
    torch.save({"model": {"a": torch.ones(5000)}}, file)
    file.write_bytes(file.read_bytes()[:9000])


def _cut_pickle(file: Path) -> None:
    file.write_bytes(pickle.dumps({"model": {"a": np.ones(5000)}})[:9000])


OTHERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda file: file.write_bytes(b""), "is empty"),
    "page": (lambda file: file.write_text("<!DOCTYPE html><html>"), "web page.*browser"),
    "lfs": (
        lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "lfs pull",
    ),
    "npz": (_npz, r"\.npz"),
    "zip": (_zip, r"zip file of readme\.txt"),
    "torchscript": (_torchscript, "TorchScript program"),
    "cut": (_cut, "without its end.*again"),
    "cut pickle": (_cut_pickle, "damaged.*again"),
    "onnx": (lambda file: file.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x05"), "ONNX"),
    "text": (lambda file: file.write_text("model_0009999.pth"), "text, which begins with"),
    "noise": (lambda file: file.write_bytes(bytes(range(256)) * 9), "damaged.*again"),
    "json": (lambda file: file.write_text('{"error": "not found"}'), "text.*error"),
    "tar": (lambda file: file.write_bytes(b"a" * 257 + b"ustar" + b"\0" * 300), "tar archive"),
    "numbers": (lambda file: torch.save({"loss": torch.tensor(3.0)}, file), "no tensors by name"),
    "nothing": (lambda file: torch.save({}, file), "no tensors by name; it has nothing"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_no_checkpoint_is_called_what_it_is(
    other: str, tiny_config: Path, model: nn.Module, tmp_path: Path
) -> None:
    write, said = OTHERS[other]
    file = tmp_path / "model.pth"
    write(file)
    with pytest.raises(WeightsError, match=rf"model\.pth .*{said}") as raised:
        load(tiny_config, model, file)
    assert "weights_only" not in str(raised.value)


def test_a_pointer_to_the_last_checkpoint_leads_to_it(
    tiny_config: Path, model: nn.Module, state: State, tmp_path: Path
) -> None:
    (tmp_path / "last_checkpoint").write_text("model_final.pth")
    torch.save(state, tmp_path / "model_final.pth")
    with pytest.raises(WeightsError, match=r"names .*model_final\.pth, which is there"):
        load(tiny_config, model, tmp_path / "last_checkpoint")
    with pytest.raises(WeightsError, match=r"is a folder.*model_final\.pth"):
        load(tiny_config, model, tmp_path)


def test_weights_that_training_left_beside_the_config_are_named(
    tiny_config: Path, state: State, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"_BASE_: {tiny_config}\n")
    assert load_config(ConfigSource(str(config))).notes == ()
    torch.save(state, tmp_path / "model_0000099.pth")
    (tmp_path / "last_checkpoint").write_text("model_0000099.pth")
    read = load_config(ConfigSource(str(config)))
    (note,) = read.notes
    assert "tiny.pth" in note
    assert f"MODEL.WEIGHTS {tmp_path / 'model_0000099.pth'}" in note
    chosen = ConfigSource(str(config), ("MODEL.WEIGHTS", str(tiny_config.with_name("tiny.pth"))))
    assert load_config(chosen).notes == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensor: tensor.to(torch.complex64), "is of complex64, expected float32"),
        (lambda tensor: tensor.to(torch.int8), "is of int8, expected float32"),
        (lambda tensor: tensor * float("nan"), r"no numbers \(NaN\)"),
        (lambda tensor: tensor / 0, r"(no numbers|infinite)"),
        (lambda tensor: tensor.sum(), r"is \(\), expected"),
        (lambda tensor: tensor.float().tolist(), "is missing"),
    ],
)
@pytest.mark.filterwarnings("ignore:Casting complex")
def test_values_that_no_model_can_answer_with_are_refused(
    change: Callable[[torch.Tensor], Any],
    said: str,
    tiny_config: Path,
    model: nn.Module,
    state: State,
    tmp_path: Path,
) -> None:
    name, file = "backbone.fpn_lateral2.weight", tmp_path / "model.pth"
    torch.save({"model": {**state, name: change(state[name])}}, file)
    with pytest.raises(WeightsError, match=rf"model\.pth .*fpn_lateral2\.weight.*{said}"):
        load(tiny_config, model, file)
