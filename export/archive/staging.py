"""Why: a .mar is complete or it is not there, and any TorchServe must find in it what it expects.

torch-model-archiver itself lays out the archive. It is built beside nothing of the user's, and only
a finished, reopened archive is renamed to its name.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
import yaml
from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_packaging import generate_model_archive

from d2serve import handlers
from d2serve.export.archive.naming import require_place
from d2serve.export.errors import ArchiveError, one_line
from d2serve.export.request import DEFAULT_VERSION
from d2serve.handlers.spec.model_spec import SPEC_FILE, ModelSpec
from d2serve.handlers.spec.runtimes import RUNTIMES

CONFIG_FILE = "model-config.yaml"
_ABANDONED_SECONDS = 3600
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
        """Choose the program, by its files, and write its spec and TorchServe's settings."""
        self._program = list(program)
        stand_in = self._extra / "torch.py"
        stand_in.unlink(missing_ok=True)
        if not RUNTIMES[spec.runtime].needs_torch:
            shutil.copy(_TORCHSERVE / _STAND_IN_FOR_TORCH, stand_in)
        (self._extra / SPEC_FILE).write_text(spec.to_json(), encoding="utf-8")
        lines = [
            "# TorchServe's settings of this model; registering it over the management API with",
            "# other values overrides them. 'batching' is d2serve's: auto, always or never.",
            yaml.safe_dump(dict(settings), sort_keys=False),
        ]
        (self._parts / CONFIG_FILE).write_text("\n".join(lines), encoding="utf-8")

    def lay_out(self) -> Path:
        """The archive's contents in a folder, as TorchServe extracts them."""
        self._run_archiver("no-archive", self._folder / "laid_out")
        return self._folder / "laid_out" / self._name

    def pack(self) -> Path:
        """The archive as a file in the private folder."""
        self._run_archiver("default", self._folder / "packed")
        packed = self._folder / "packed" / f"{self._name}.mar"
        # The archiver deflates, which makes weights 8 % smaller, and every load of them wait.
        stored = packed.with_suffix(".stored")
        with zipfile.ZipFile(packed) as source, zipfile.ZipFile(stored, "w") as target:
            for entry in source.infolist():
                target.writestr(entry, source.read(entry), zipfile.ZIP_STORED)
        return stored.replace(packed)

    def _run_archiver(self, archive_format: str, target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        # The archiver empties TMPDIR/NAME, so it must not be a folder that others use.
        with _temporary_directory(self._folder / "archiver"):
            generate_model_archive(
                ModelArchiverConfig(
                    model_name=self._name,
                    handler=str(self._parts / _HANDLER_FILE),
                    version=self._version,
                    serialized_file=str(self._program[0]),
                    extra_files=",".join(str(each) for each in (self._extra, *self._program[1:])),
                    export_path=str(target),
                    archive_format=archive_format,
                    config_file=str(self._parts / CONFIG_FILE),
                )
            )


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


@contextmanager
def opened(archive: Path) -> Iterator[Path]:
    """The contents of a .mar in a private folder.

    Raises:
        ArchiveError: it is missing, damaged, or has entries outside itself.
    """
    with tempfile.TemporaryDirectory(prefix="d2serve-mar-") as folder:
        try:
            with zipfile.ZipFile(archive) as file:
                outside = [n for n in file.namelist() if n.startswith("/") or ".." in Path(n).parts]
                if outside:
                    raise ArchiveError(f"{archive} has entries outside itself: {outside[:3]}.")
                file.extractall(folder)
        except (OSError, zipfile.BadZipFile) as error:
            raise ArchiveError(
                f"{archive} cannot be opened ({one_line(error)}). Expected a .mar made by "
                "`d2serve export`; if it was copied, it may be incomplete."
            ) from error
        yield Path(folder)


def install(archive: Path, store: Path, name: str, version: str = DEFAULT_VERSION) -> Path:
    """Put a finished archive into the model store, in one step that cannot be half done.

    Raises:
        ArchiveError: the store cannot be written, or has another archive of that file name.
    """
    target = require_place(store, name, version)
    partial = None
    try:
        store.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(store, name)
        # In the store itself: only within one file system is a rename a single step.
        handle, partial = tempfile.mkstemp(prefix=f".{name}.", suffix=".partial", dir=store)
        with os.fdopen(handle, "wb") as out, archive.open("rb") as source:
            shutil.copyfileobj(source, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        Path(partial).chmod(0o644)
        Path(partial).replace(target)
    except OSError as error:
        if partial is not None:
            Path(partial).unlink(missing_ok=True)
        raise ArchiveError(
            f"{target} cannot be written ({error.strerror}). Expected a folder with room for "
            f"{archive.stat().st_size >> 20} MB that you may write; an older archive is untouched."
        ) from error
    return target


def _remove_abandoned(store: Path, name: str) -> None:
    """What exports that were killed while they wrote have left; one that is writing touches its
    own all the time."""
    for partial in store.glob(f".{glob.escape(name)}.*.partial"):
        with suppress(OSError):  # another export may do the same
            if time.time() - partial.stat().st_mtime > _ABANDONED_SECONDS:
                partial.unlink()


@contextmanager
def _temporary_directory(folder: Path) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
