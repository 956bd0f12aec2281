"""What the tests test: the sources, or a copy of them that is as new."""

from __future__ import annotations

import filecmp
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOMS = ("kernels", "handlers", "export", "client", "server", "cli")


def differing(room: Path, installed: Path) -> list[str]:
    """Python files of a room that an installation of it has not, or has in another state."""
    names = {file.relative_to(room) for file in room.rglob("*.py")}
    names |= {file.relative_to(installed) for file in installed.rglob("*.py")}
    _, different, missing = filecmp.cmpfiles(room, installed, map(str, names), shallow=False)
    return sorted(different + missing)


def refuse_a_stale_copy(root: Path) -> None:
    """Stop before a test that would pass or fail for what the code was before an edit."""
    for room in ROOMS:
        spec = find_spec(f"d2serve.{room}")
        if spec is None or spec.origin is None:
            pytest.exit(f"d2serve.{room} is not installed. To link the sources: make dev", 3)
        installed = Path(spec.origin).parent
        if installed.samefile(root / room):
            continue
        changed = differing(root / room, installed)
        if changed:
            pytest.exit(
                f"{room}/{changed[0]} is not what is installed as d2serve.{room} in {installed}, "
                "so the tests would test something else. To link the sources, once: make dev. "
                "To test a copy, as users install it: make test",
                3,
            )
