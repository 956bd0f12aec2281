"""A checkpoint is a pickle: what would run code is refused, unless the user trusts it."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from d2serve.export.errors import WeightsError
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.config import ConfigSource, load_config
from d2serve.export.reading.samples import builtin_sample
from d2serve.export.reading.weights import load_model


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


def _source(tiny_config: Path, weights: Path) -> ConfigSource:
    return ConfigSource(str(tiny_config), ("MODEL.WEIGHTS", str(weights)))


def _state(tiny_config: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(tiny_config.with_name("tiny.pth"), weights_only=True)
    state: dict[str, torch.Tensor] = checkpoint["model"]
    return state


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_what_runs_code_is_refused_and_not_run(
    suffix: str, tiny_config: Path, tmp_path: Path
) -> None:
    weights, made = tmp_path / f"model.{suffix}", tmp_path / "made"
    content = {"model": _state(tiny_config), "extra": Runs(made)}
    if suffix == "pth":
        torch.save(content, weights)
    else:
        weights.write_bytes(pickle.dumps(content))
    with pytest.raises(WeightsError, match=r"holds more than tensors .*--trust-weights"):
        load_model(load_config(_source(tiny_config, weights)))
    assert not made.exists()


@pytest.mark.parametrize(("version", "is_read"), [("2.5.1+cu121", False), ("2.6.0", True)])
def test_a_torch_that_runs_code_all_the_same(
    version: str, is_read: bool, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(_source(tiny_config, tiny_config.with_name("tiny.pth")))
    monkeypatch.setattr(torch, "__version__", version)
    if is_read:
        assert load_model(config)
    else:
        with pytest.raises(WeightsError, match=r"torch 2\.5\.1.* --trust-weights"):
            load_model(config)


def test_what_the_user_trusts_is_read(tiny_config: Path, tmp_path: Path) -> None:
    weights, made = tmp_path / "model.pth", tmp_path / "made"
    torch.save({"model": _state(tiny_config), "extra": Runs(made)}, weights)
    source = replace(_source(tiny_config, weights), trust_weights=True)
    load_model(load_config(source))
    assert made.is_dir()


def test_a_pkl_of_the_model_zoo_gives_the_same_answer(tiny_config: Path, tmp_path: Path) -> None:
    weights = tmp_path / "model.pkl"
    arrays = {name: tensor.numpy() for name, tensor in _state(tiny_config).items()}
    weights.write_bytes(pickle.dumps({"model": arrays, "__author__": "test"}))
    image = builtin_sample()
    expected = Oracle(load_config(ConfigSource(str(tiny_config)))).answer(image).instances
    got = Oracle(load_config(_source(tiny_config, weights))).answer(image).instances
    assert expected is not None
    assert got is not None
    assert len(expected) > 0
    assert np.array_equal(expected.boxes, got.boxes)
