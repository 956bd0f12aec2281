"""The record of a program's files, which the steps of an export hand on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from d2serve.export.programs.doubting.doubts import Doubt
from d2serve.handlers.digests import sha256_of


@dataclass(frozen=True)
class Program:
    """The files of a program, alone in a folder."""

    main: Path
    outputs: tuple[str, ...]
    """Names of what it answers, in its order."""
    doubts: tuple[Doubt, ...]
    """Places where a trace made constants of what depends on the image."""
    rewrites: tuple[str, ...]
    """Names of what upstream's own export would have failed at."""
    detail_classes: int | None = None
    """As in the spec: None where it makes masks and keypoints of all instances."""

    @property
    def files(self) -> list[Path]:
        """All of them, the main one first."""
        files = (file for file in self.main.parent.rglob("*") if file.is_file())
        return [self.main, *sorted(file for file in files if file != self.main)]

    def hashes(self) -> dict[str, str]:
        """SHA-256 by path within the folder."""
        folder = self.main.parent
        return {file.relative_to(folder).as_posix(): sha256_of(file) for file in self.files}
