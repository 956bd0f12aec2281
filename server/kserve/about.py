"""What the server says of itself, over both protocols."""

from __future__ import annotations

from importlib import metadata


def _version() -> str:
    try:
        return metadata.version("d2serve")
    except metadata.PackageNotFoundError:
        return "unknown"


SERVER_METADATA = {
    "name": "d2serve",
    "version": _version(),
    "extensions": ["binary_tensor_data", "parameters"],
}
"""The names are the Open Inference Protocol's."""
