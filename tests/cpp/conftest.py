"""What the tests of examples/cpp share: its builds, and what they make of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from environment.cpp import lacking
from tests.cpp.building import built
from tests.cpp.probing import Probe


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    reason = lacking() if here else None
    for item in here:
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def cpp_build() -> Path:
    """A build of examples/cpp with every engine that there is something to build it with."""
    return built("plain", "-DCMAKE_BUILD_TYPE=Release")


@pytest.fixture(scope="session")
def sanitized_build() -> Path:
    """A build of the library, without engines, that ends at what ASan or UBSan finds."""
    sanitizers = "-DD2SERVE_SANITIZE=address,undefined"
    flags = ("-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g1")
    engines = ("-DD2SERVE_OPENVINO=OFF", "-DD2SERVE_LIBTORCH=OFF")
    return built("sanitized", *flags, sanitizers, *engines)


@pytest.fixture(scope="session")
def probe(sanitized_build: Path) -> Probe:
    """Shows what the library makes of files and pixels, under the sanitizers."""
    return Probe(sanitized_build / "bin" / "d2serve_probe")
