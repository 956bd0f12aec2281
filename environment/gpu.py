"""Say whether this machine has an NVIDIA GPU that torch sees: `python -m environment.gpu`.

What `make gpu` installs takes gigabytes, so it asks before.
"""

from __future__ import annotations

import torch


def why_none() -> str | None:
    """Why nothing can be run on a GPU here, or None where something can."""
    if torch.cuda.is_available():
        return None
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return (
        f"torch {torch.__version__} ({built}) sees no NVIDIA GPU here, so nothing was installed or "
        "run. `make gpu` is for a machine that has one, with its driver."
    )


if __name__ == "__main__":
    raise SystemExit(why_none())
