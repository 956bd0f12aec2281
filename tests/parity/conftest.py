"""One TorchServe that serves the example models in turn, and eager detectron2 beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2serve.export.errors import ExportError
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.config_loading import load_config
from d2serve.server.torchserve.process import TorchServeProcess
from tests.conftest import Exporter, HeldOut, source_of
from tests.parity.references import of_many_sizes
from tests.ways import asked


class Served:
    """``served(model, kind)`` is the name under which an example model answers.

    Workers of all of them would not fit into the memory, so one model is there at a time, in every
    kind that a test of the module asks for: their workers start together.
    """

    def __init__(
        self, server: TorchServeProcess, exported: Exporter, wanted: Sequence[tuple[str, str]]
    ) -> None:
        self._server = server
        self._exported = exported
        self._wanted = wanted
        self._live: list[str] = []
        exported.ahead(*wanted)

    def __call__(self, model: str, kind: str) -> str:
        """Registers it if need be; raises what its export raised."""
        name = self._exported(model, kind).stem
        if name not in self._live:
            self.leave()
            others = (k for m, k in self._wanted if m == model and k != kind)
            self._live = [name, *(each for each in map(self._name(model), others) if each)]
            management = self._server.management
            for each in self._live:
                management.register(f"{each}.mar", model_name=each, ready_seconds=0)
            for each in self._live:
                management.wait_ready(each)
        return name

    def _name(self, model: str) -> Callable[[str], str | None]:
        def name_of(kind: str) -> str | None:
            try:
                return self._exported(model, kind).stem
            except ExportError:  # for the test of that kind to tell
                return None

        return name_of

    def leave(self) -> None:
        """Unregister what is there."""
        while self._live:
            self._server.management.unregister(self._live.pop(), drain_seconds=0)


@pytest.fixture(scope="session")
def server(exported: Exporter) -> Iterator[TorchServeProcess]:
    """A real TorchServe on the folder of the example models' archives."""
    with TorchServeProcess(model_store=exported.store, enable_model_api=True) as running:
        yield running


@pytest.fixture(scope="module")
def served(
    server: TorchServeProcess, exported: Exporter, request: pytest.FixtureRequest
) -> Iterator[Served]:
    """Serves an example model."""
    made = Served(server, exported, [(m, k) for m, k in asked(request, "model", "kind")])
    yield made
    made.leave()


@pytest.fixture(scope="session")
def oracle_of() -> Callable[[str], Oracle]:
    """Eager detectron2 for an example model."""
    made: dict[str, Oracle] = {}

    def make(model: str) -> Oracle:
        if model not in made:
            made[model] = Oracle(load_config(source_of(model)))
        return made[model]

    return make


@pytest.fixture
def few_files(held_out: HeldOut, tmp_path: Path) -> list[Path]:
    """Five images of as many sizes, and one in which there is nothing."""
    nothing = tmp_path / "nothing.png"
    Image.fromarray(np.full((90, 70, 3), 128, np.uint8)).save(nothing)
    return [*of_many_sizes(held_out.images, 5, 5), nothing]
