"""Lets two scripted programs of one model be the same bytes, whichever process writes them.

torch writes a module's constants in the order of a Python set, which is another one in each
process. And it writes the names of source files for its error messages, of which one is temporary:
detectron2 writes the class that stands for ``Instances`` into a file of its own
(``patch_instances`` in detectron2/export/torchscript_patch.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import _sources
from torch.jit import _recursive, frontend

_GENERATED = "<Instances, by detectron2/export/torchscript_patch.py>"


class _SortedSet(set[str]):
    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__()))


@contextmanager
def repeatable_scripting() -> Iterator[None]:
    """Within it, scripting writes nothing of this process into a program."""
    read = _sources.get_source_lines_and_file

    def named(code: Any, error_msg: str | None = None) -> tuple[list[str], int, str | None]:
        lines, number, file = read(code, error_msg)
        return lines, number, _GENERATED if file is not None and _is_generated(file) else file

    names = vars(_recursive)
    names["set"] = _SortedSet  # for `constants_set` in infer_concrete_type_builder
    vars(_sources)["get_source_lines_and_file"] = named
    vars(frontend)["get_source_lines_and_file"] = named
    try:
        yield
    finally:
        del names["set"]
        vars(_sources)["get_source_lines_and_file"] = read
        vars(frontend)["get_source_lines_and_file"] = read


def _is_generated(file: str) -> bool:
    folder = Path(file).parent
    return folder.name.startswith("detectron2") and folder.parent == Path(tempfile.gettempdir())
