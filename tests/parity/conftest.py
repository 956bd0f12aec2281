"""One TorchServe with all every example archive, and eager detectron2 beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from d2serve.client.server import TorchServeProcess
from d2serve.export.config import load_config
from d2serve.export.oracle import Oracle
from tests.conftest import KINDS, MODELS, Exporter, source_of


@pytest.fixture(scope="session")
def server(exported: Exporter) -> Iterator[TorchServeProcess]:
    """A real TorchServe that serves every example model in every kind."""
    archives = {f"{model}_{kind}": exported(model, kind) for model in MODELS for kind in KINDS}
    one_each = {"default_workers_per_model": "1"}
    with TorchServeProcess(archives, overrides=one_each, timeout=600) as running:
        yield running


@pytest.fixture(scope="session")
def oracle_of() -> Callable[[str], Oracle]:
    """Eager detectron2 for an example model."""
    made: dict[str, Oracle] = {}

    def make(model: str) -> Oracle:
        if model not in made:
            made[model] = Oracle(load_config(source_of(model)))
        return made[model]

    return make
