"""Writes what extras of pyproject.toml need, a file of requirements each: for layers of the image
that stay the same while d2serve itself changes (deploy/Dockerfile).

    python environment/requirements.py server onnxruntime --output DIR
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import tomllib

_PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
_OWN = re.compile(r"d2serve\[([^\]]+)\]")


def requirements(extra: str, extras: dict[str, list[str]]) -> Iterator[str]:
    """What an extra needs, with the extras that it names itself resolved."""
    for needed in extras[extra]:
        own = _OWN.fullmatch(needed)
        if own is None:
            yield needed
        else:
            for each in own[1].split(","):
                yield from requirements(each, extras)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", nargs="+")
    parser.add_argument("--output", type=Path, required=True, help="the folder to write to")
    given = parser.parse_args()
    extras = tomllib.loads(_PYPROJECT.read_text("utf-8"))["project"]["optional-dependencies"]
    for extra in given.extras:
        lines = dict.fromkeys(requirements(extra, extras))  # each once
        (given.output / f"{extra}.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")


if __name__ == "__main__":
    main()
