"""What pyproject.toml and setup.py say of the package is true of the tree."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomllib

from tests.conftest import ROOT

PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = ("kernels", "handlers", "export", "client", "server", "cli")


def _package_page() -> Callable[[str, str | None, str], str]:
    spec = importlib.util.spec_from_file_location("d2serve_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page: Callable[[str, str | None, str], str] = module.package_page
    return page


package_page = _package_page()


def test_every_folder_of_a_room_is_a_package() -> None:
    folders = {file.parent.relative_to(ROOT) for room in ROOMS for file in _modules(room)}
    packages = {f"d2serve.{'.'.join(folder.parts)}" for folder in folders}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == packages | {"d2serve"}


def _modules(room: str) -> list[Path]:
    return list((ROOT / room).rglob("*.py"))


def test_nothing_in_the_root_would_become_a_module_of_the_package() -> None:
    # The root is mapped to the namespace d2serve, for the two files that lie there.
    assert [file.name for file in ROOT.glob("*.py")] == ["setup.py"]
    for file in PYPROJECT["tool"]["setuptools"]["package-data"]["d2serve"]:
        assert (ROOT / file).is_file()


def test_every_file_that_is_no_module_is_named_as_data_of_its_package() -> None:
    named = PYPROJECT["tool"]["setuptools"]["package-data"]
    found = 0
    for package, patterns in named.items():
        room = ROOT.joinpath(*package.split(".")[1:])
        if package.count(".") < 2:
            continue
        files = {
            file
            for file in room.rglob("*")
            if file.is_file() and file.suffix not in (".py", ".pyc") and file.name != "py.typed"
        }
        assert files == {file for pattern in patterns for file in room.glob(pattern)}, package
        found += len(files)
    assert found > 10


def test_no_extra_brings_a_setuptools_without_pkg_resources() -> None:
    """grpcio-tools takes any setuptools, and detectron2 cannot do without pkg_resources."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    bring_grpcio_tools = [
        extra for extra, needs in extras.items() if any("grpcio-tools" in each for each in needs)
    ]
    assert bring_grpcio_tools == ["client"]
    assert "setuptools<81" in extras["client"]


class TestPackagePage:
    README = "![a picture](docs/a.png) [More](docs/b.md#c), [d2](https://example.com/x), [up](#top)"

    def test_links_lead_into_the_repository_where_it_has_an_address(self) -> None:
        assert package_page(self.README, "https://example.com/us/d2serve/", "1.2") == (
            "![a picture](https://example.com/us/d2serve/raw/v1.2/docs/a.png) "
            "[More](https://example.com/us/d2serve/blob/v1.2/docs/b.md#c), "
            "[d2](https://example.com/x), [up](#top)"
        )

    def test_without_an_address_they_become_text(self) -> None:
        shown = " More (`docs/b.md`), [d2](https://example.com/x), [up](#top)"
        assert package_page(self.README, None, "1.2") == shown

    def test_the_readme_has_no_link_that_leads_nowhere(self) -> None:
        page = package_page((ROOT / "README.md").read_text(), None, "1.2")
        assert "](docs" not in page
        assert "![" not in page
