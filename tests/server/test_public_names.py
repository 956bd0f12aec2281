"""What `from d2serve.server import` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import d2serve.server


def test_every_public_name_is_there() -> None:
    for name in d2serve.server.__all__:
        assert getattr(d2serve.server, name).__name__ == name


def test_an_archive_is_read_without_any_client() -> None:
    code = (
        "import sys; from d2serve.server import read_contents\n"
        "print({'httpx', 'grpc', 'numpy', 'torch', 'psutil'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
