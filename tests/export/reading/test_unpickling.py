"""A checkpoint is a pickle: what would run code is refused, unless the user trusts it."""

from __future__ import annotations

import functools
import io
import os
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager

from d2serve.export.errors import WeightsError
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.checkpoints.checkpointer import StrictCheckpointer
from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.config_loading import load_config
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


ENDINGS = ("model.pth", "model.pyth", "model.pt", "model.ckpt", "model", "model.pkl")


def _arrays(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in state.items()}


def _write(content: dict[str, Any], weights: Path) -> None:
    if weights.suffix == ".pkl":
        weights.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, weights)


@pytest.fixture
def always_unpickling(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own switch back to the default of torch before 2.6, which people still set."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")


@pytest.mark.usefixtures("always_unpickling")
@pytest.mark.parametrize("name", ENDINGS)
def test_what_runs_code_is_refused_and_not_run(
    name: str, tiny_config: Path, tmp_path: Path
) -> None:
    weights, made = tmp_path / name, tmp_path / "made"
    state = _state(tiny_config)
    tensors = _arrays(state) if weights.suffix == ".pkl" else state
    _write({"model": tensors, "model_state": tensors, "extra": Runs(made)}, weights)
    with pytest.raises(
        WeightsError, match=r"holds more than tensors .*posix\.mkdir.*--trust-weights"
    ):
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


@pytest.mark.usefixtures("always_unpickling")
def test_what_an_address_names_is_refused_and_not_run(
    served: str, tiny_config: Path, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    _write({"model_state": _state(tiny_config), "extra": Runs(made)}, tmp_path / "model.pyth")
    source = ConfigSource(str(tiny_config), ("MODEL.WEIGHTS", f"{served}/model.pyth"))
    with pytest.raises(WeightsError, match=r"http://.*holds more than tensors .*mkdir"):
        load_model(load_config(source))
    assert not made.exists()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a server of this test's folder; what is fetched from it lies there as well."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["model.pkl", "model.pyth", "model.pth"])
def test_what_was_checked_is_what_is_loaded(
    name: str, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody replaces the file as soon as it has been read once."""
    weights, made = tmp_path / name, tmp_path / "made"
    state = _state(tiny_config)
    arrays = _arrays(state)
    _write(
        {"model": arrays, "__author__": "a"}
        if name.endswith("pkl")
        else {"model": state, "model_state": state},
        weights,
    )
    evil = tmp_path / f"evil{weights.suffix}"
    _write({"model": arrays, "model_state": state, "extra": Runs(made)}, evil)
    times_read = 0
    honest = PathManager.open

    def opened(path: str, *args: Any, **kwargs: Any) -> Any:
        nonlocal times_read
        if path != str(weights):
            return honest(path, *args, **kwargs)
        times_read += 1
        content = io.BytesIO(weights.read_bytes())
        shutil.copy(evil, weights)
        return content

    monkeypatch.setattr(PathManager, "open", opened)
    model = load_model(load_config(_source(tiny_config, weights)))
    assert times_read == 1
    assert not made.exists()
    name_of_one = "backbone.fpn_lateral2.weight"
    assert torch.equal(model.state_dict()[name_of_one], state[name_of_one])


def _caffe2(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {
        "conv1_w": state["backbone.bottom_up.stem.conv1.weight"].numpy(),
        "conv1_w_momentum": np.zeros(3, np.float32),
    }


FORMATS: dict[str, tuple[str, Callable[[dict[str, torch.Tensor]], dict[str, Any]]]] = {
    "of detectron2's trainer": ("model.pth", lambda state: {"model": state, "iteration": 7}),
    "a state_dict alone": ("model.pth", dict),
    "with names to be matched": ("model.pth?matching_heuristics=True", dict),
    "of the model zoo": ("model.pkl", lambda state: {"model": _arrays(state), "__author__": "a"}),
    "of Detectron": ("model.pkl", lambda state: {"blobs": _caffe2(state), "cfg": "text"}),
    "of Caffe2's ImageNet models": ("model.pkl", _caffe2),
    "of pycls": (
        "model.pyth",
        lambda state: {
            "model_state": {**state, "bn.num_batches_tracked": torch.tensor(5)},
            "cfg": "text",
            "epoch": 3,
        },
    ),
}


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_each_format_is_understood_as_detectron2_does(
    form: str,
    trusted: bool,
    tiny_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, content = FORMATS[form]
    _write(content(_state(tiny_config)), tmp_path / address.split("?")[0])
    understood = []
    for checkpointer in (
        DetectionCheckpointer(torch.nn.Identity()),
        StrictCheckpointer(torch.nn.Identity(), trusted=trusted),
    ):
        taken: list[dict[str, Any]] = []
        # Before it is matched to a model's names.
        monkeypatch.setattr(checkpointer, "_load_model", taken.append)
        checkpointer.load(str(tmp_path / address))
        understood.append(taken[0])
    expected, got = understood
    assert expected.keys() == got.keys()
    for key in expected.keys() - {"model"}:
        assert expected[key] == got[key]
    assert expected["model"].keys() == got["model"].keys()
    assert len(got["model"]) > 0
    for name, value in expected["model"].items():
        assert np.array_equal(value, got["model"][name])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.pth", [1, 2], r"holds a list, expected a dict"),
        ("model.pkl", [1, 2], r"holds a list, expected a dict"),
        ("model.pyth", {"model": {}}, r"\.pyth.*expected 'model_state'.*got: model"),
        ("model.pth", {"model": [1]}, r"model.*list, expected a dict"),
        ("model.pth?head=3", {"model": {}}, r"head=3.*matching_heuristics=True"),
    ],
)
def test_what_is_no_checkpoint_is_said(
    name: str, content: Any, message: str, tiny_config: Path, tmp_path: Path
) -> None:
    _write(content, tmp_path / name.split("?")[0])
    with pytest.raises(WeightsError, match=message):
        load_model(load_config(_source(tiny_config, tmp_path / name)))


def test_what_the_user_trusts_is_read(tiny_config: Path, tmp_path: Path) -> None:
    weights, made = tmp_path / "model.pth", tmp_path / "made"
    torch.save({"model": _state(tiny_config), "extra": Runs(made)}, weights)
    source = replace(_source(tiny_config, weights), trust_weights=True)
    load_model(load_config(source))
    assert made.is_dir()


def test_a_pkl_of_the_model_zoo_gives_the_same_answer(tiny_config: Path, tmp_path: Path) -> None:
    weights = tmp_path / "model.pkl"
    _write({"model": _arrays(_state(tiny_config)), "__author__": "test"}, weights)
    image = builtin_sample()
    expected = Oracle(load_config(ConfigSource(str(tiny_config)))).answer(image).instances
    got = Oracle(load_config(_source(tiny_config, weights))).answer(image).instances
    assert expected is not None
    assert got is not None
    assert len(expected) > 0
    assert np.array_equal(expected.boxes, got.boxes)


class _Site(SimpleHTTPRequestHandler):
    """As Dropbox: a page, and the file only for ``?dl=1``."""

    def do_GET(self) -> None:
        if self.path.endswith("dl=1"):
            super().do_GET()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<!DOCTYPE html><html>Download</html>")

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


def test_an_address_keeps_what_its_site_is_asked_for(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    torch.save({"model": _state(tiny_config)}, tmp_path / "model_final.pth")
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Site, directory=str(tmp_path))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/model_final.pth"
        for query in ("?dl=1", "?matching_heuristics=True&dl=1"):
            source = ConfigSource(str(tiny_config), ("MODEL.WEIGHTS", address + query))
            load_model(load_config(source))
        source = ConfigSource(str(tiny_config), ("MODEL.WEIGHTS", address))
        with pytest.raises(WeightsError, match=r"model_final\.pth.* is a web page.*address of the"):
            load_model(load_config(source))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
