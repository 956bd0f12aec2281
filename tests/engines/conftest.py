"""The tests of other engines and tools: each folder runs in an environment of its name.

``make test-engines``, ``test-triton`` and ``test-tools`` make the environments, which lie beside
that of the other tests, and run them; ``make test-all`` runs all.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from environment.beside import python_beside
from tests.engines.reference import Reference

_HERE = Path(__file__).parent

collect_ignore = [
    folder.name
    for folder in _HERE.iterdir()
    if (folder / "requirements.txt").is_file() and folder.name != Path(sys.prefix).name
]


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """An archive, 300 images, and what TorchServe answers to them."""
    made = os.environ.get("D2SERVE_REFERENCE")
    if made is not None:
        return Reference(Path(made))
    folder = tmp_path_factory.mktemp("reference")
    command = [str(python_beside()), "-W", "ignore", "-m", "tests.engines.reference", str(folder)]
    subprocess.run(command, check=True, timeout=900)
    return Reference(folder)
