"""What the tests of the tools share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from d2serve.server.annotating.asking import Model, open_model
from tests.conftest import Exporter
from tests.engines.reference import Reference
from tests.engines.tools.archives import Archives


@pytest.fixture(scope="session")
def archives(exported: Exporter, reference: Reference) -> Archives:
    """Archives by the kind of their models."""
    return Archives(exported, reference)


@pytest.fixture(scope="session")
def models(archives: Archives) -> Iterator[Callable[[str], Model]]:
    """The same, loaded into this process, each once."""
    opened: dict[str, Model] = {}

    def model(kind: str) -> Model:
        if kind not in opened:
            opened[kind] = open_model(archives(kind))
        return opened[kind]

    yield model
    for each in opened.values():
        each.close()


@pytest.fixture(scope="session")
def frames(reference: Reference) -> list[Path]:
    """Twenty images, which show some 140 objects."""
    return reference.images[:20]
