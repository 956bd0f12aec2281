"""Puts the parts of a .mar together in a private folder, as any TorchServe expects them.

torch-model-archiver itself lays out the archive. It is built beside nothing of the user's.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_packaging import generate_model_archive

from d2serve import handlers
from d2serve.export.archive.packing import pack
from d2serve.export.errors import ArchiveError, one_line
from d2serve.export.reading.family import Family
from d2serve.handlers.spec.limits import DEFAULT_LIMITS, RequestLimits
from d2serve.handlers.spec.model_spec import PICTURE_FILE, SPEC_FILE, ModelSpec
from d2serve.handlers.spec.runtimes import RUNTIMES

_MOST_OF_A_LIMIT = 2**31 - 1
CONFIG_FILE = "model-config.yaml"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

_HANDLERS = Path(handlers.__path__[0])
_TORCHSERVE = _HANDLERS / "torchserve"
_HANDLER_FILE = "detection_handler.py"
_STAND_IN_FOR_TORCH = "torch_stand_in.py"


class Staging:
    """Parts of an archive in a private folder, which goes when the context ends."""

    def __init__(self, folder: Path, name: str, version: str) -> None:
        self._folder = folder
        self._name = name
        self._version = version
        self._parts = folder / "parts"
        self._extra = folder / "extra"
        library = self._extra / "d2serve" / "handlers"
        shutil.copytree(_HANDLERS, library, ignore=shutil.ignore_patterns("__pycache__"))
        self._parts.mkdir()
        shutil.copy(_TORCHSERVE / _HANDLER_FILE, self._parts)
        self._program: list[Path] = []

    def folder(self, name: str) -> Path:
        """A new, empty folder for the files of a program."""
        made = self._folder / name
        made.mkdir()
        return made

    def describe(
        self, program: Sequence[Path], spec: ModelSpec, settings: Mapping[str, object]
    ) -> None:
        """Choose the program and write its spec and TorchServe's settings.

        Args:
            program: its files, the main one first; where there are several, they are all that is in
                the main one's folder.
        """
        self._program = list(program)
        stand_in = self._extra / "torch.py"
        stand_in.unlink(missing_ok=True)
        if not RUNTIMES[spec.runtime].needs_torch:
            shutil.copy(_TORCHSERVE / _STAND_IN_FOR_TORCH, stand_in)
        (self._extra / SPEC_FILE).write_text(spec.to_json(), encoding="utf-8")
        lines = [
            "# TorchServe's settings of this model; registering it over the management API with",
            "# other values overrides them. d2serve's own are 'batching' (auto, always or never)",
            "# and 'convolution' (auto, winograd or direct).",
            yaml.safe_dump(dict(settings), sort_keys=False),
        ]
        (self._parts / CONFIG_FILE).write_text("\n".join(lines), encoding="utf-8")

    def picture(self, svg: str) -> None:
        """Add the picture of the network."""
        (self._extra / PICTURE_FILE).write_text(svg, encoding="utf-8")

    def lay_out(self) -> Path:
        """The archive's contents in a folder, as TorchServe extracts them."""
        target = self._folder / "laid_out"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        main, *others = self._program
        # Of a folder the archiver takes what is in it.
        extra = (self._extra, main.parent) if others else (self._extra,)
        # The archiver empties TMPDIR/NAME, so it must not be a folder that others use.
        with _temporary_directory(self._folder / "archiver"):
            generate_model_archive(
                ModelArchiverConfig(
                    model_name=self._name,
                    handler=str(self._parts / _HANDLER_FILE),
                    version=self._version,
                    serialized_file=str(main),
                    extra_files=",".join(map(str, extra)),
                    export_path=str(target),
                    archive_format="no-archive",
                    config_file=str(self._parts / CONFIG_FILE),
                )
            )
        return target / self._name

    def pack(self) -> Path:
        """The archive as a file in the private folder."""
        return pack(self.lay_out(), self._folder / f"{self._name}.mar")


@contextmanager
def staging(name: str, version: str) -> Iterator[Staging]:
    """A private folder in which an archive of a model and version is put together.

    Raises:
        ArchiveError: the disk of the temporary directory is full.
    """
    with tempfile.TemporaryDirectory(prefix="d2serve-export-") as folder:
        try:
            yield Staging(Path(folder), name, version)
        # torch tells of a full disk by a RuntimeError that does not say so.
        except (OSError, RuntimeError) as error:
            full = getattr(error, "errno", None) in _DISK_FULL
            if not full and shutil.disk_usage(folder).free >> 20:
                raise
            raise ArchiveError(
                f"The disk of {Path(folder).parent} is full ({one_line(error)}): an export is put "
                "together there. Free some space, or set TMPDIR to a folder with room. "
                "An older archive is untouched."
            ) from error


def settings_for(dynamic_batch: bool, device: str) -> dict[str, object]:
    """TorchServe's settings of a model, by what its program and device gain from.

    The number of workers is not among them: it would silently win over the ``initial_workers`` of
    a registration. See docs/decisions/0002-workers.md.

    Args:
        dynamic_batch: whether the program takes several images at once.
        device: on which it was exported, and will be served most likely.
    """
    batch = dynamic_batch and torch.device(device).type == "cuda"
    batching: dict[str, object] = (
        {"batchSize": 8, "maxBatchDelay": 20} if batch else {"batchSize": 1}  # milliseconds
    )
    # After this many seconds without an answer TorchServe restarts a worker.
    return {**batching, "responseTimeout": 120, "batching": "auto"}


def limits_of(family: Family) -> RequestLimits:
    """The default limits, but never fewer detections than the model itself can give."""
    own = min(family.most_detections or 0, _MOST_OF_A_LIMIT)
    return replace(DEFAULT_LIMITS, max_detections=max(DEFAULT_LIMITS.max_detections, own))


@contextmanager
def _temporary_directory(folder: Path) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
