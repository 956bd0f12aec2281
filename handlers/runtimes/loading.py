"""Loads a program with the runtime that its spec names: named arrays in, named arrays out.

A runtime is one module with a ``load`` function, which handlers/spec/runtimes.py names. It is
imported only by a worker that serves a program of it, so that no worker pays for another runtime.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from d2serve.handlers.digests import sha256_of
from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.details import Details
from d2serve.handlers.runtimes.raw_outputs import Float32, RawOutputs, Size
from d2serve.handlers.spec.convolution import AUTO, checked, require_replaceable
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.runtimes import RUNTIMES


class Runtime(Protocol):
    """A loaded program."""

    @property
    def on_gpu(self) -> bool:
        """Whether the program runs on a GPU."""

    def run(
        self,
        images: Sequence[Float32],
        sizes: Sequence[Size] = (),
        details: Sequence[Details] = (),
    ) -> list[RawOutputs]:
        """Answer images, each (channels, H, W) float32, sizes may differ; one call of the program.

        Several images at once only where the spec says ``dynamic_batch``. ``sizes`` are those of
        the images as they were sent; without them, they were sent as they are given. A program that
        does not hold the model's own postprocessing has no use for them. ``details`` say of which
        instances of each image masks and the like are wanted: without them, and where the program
        makes them always, of all.
        """

    def set_threads(self, threads: int) -> None:
        """Use this many CPU threads from now on; where that fails, as many as before.

        Like ``run``, it may be called by any thread.
        """


@runtime_checkable
class KeepsMemory(Protocol):
    """A runtime that keeps memory between calls, for the next one to use."""

    def release_memory(self) -> None:
        """Give it up, and let the next call get it anew."""


def load_runtime(
    model_dir: Path, spec: ModelSpec, device: str, threads: int = 1, convolution: str = AUTO
) -> Runtime:
    """Check the program against its hashes and load it.

    Args:
        model_dir: the extracted archive.
        spec: its spec.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        threads: CPU threads to use within a call.
        convolution: one of CONVOLUTIONS.

    Raises:
        LoadError: program missing or changed, runtime not installed, device not there, or no such
            convolutions for this program.
    """
    require_replaceable(spec.runtime, spec.precision, checked(convolution))
    check_program(model_dir, spec)
    facts = RUNTIMES[spec.runtime]
    chosen = () if facts.winograd is None else (convolution,)
    try:
        module = importlib.import_module(facts.module)
    except ImportError as error:
        raise LoadError(
            f"The model needs the runtime {facts.title}, which cannot be imported ({error}). "
            f"Install it in the server's Python: pip install 'd2serve[{facts.name}]'."
        ) from error
    runtime: Runtime = module.load(model_dir / spec.program, spec, device, threads, *chosen)
    return runtime


def check_program(model_dir: Path, spec: ModelSpec) -> None:
    """Compare a program's files with the hashes in its spec.

    Raises:
        LoadError: one is missing or was changed.
    """
    for name, expected in spec.sha256.items():
        file = model_dir / name
        if not file.is_file():
            raise LoadError(f"{name} is missing from the archive: export the model again.")
        found = sha256_of(file)
        if found != expected:
            raise LoadError(
                f"{name} has sha256 {found[:12]}..., the spec says {expected[:12]}...: "
                "the archive was changed or damaged. Export it again."
            )
