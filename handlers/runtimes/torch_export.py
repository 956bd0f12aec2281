"""Runs programs of torch.export on torch, without TorchScript.

A program takes one image, ``image`` (channels, H, W) float32, and gives a tuple in the order of
``spec.outputs``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch._export.serde import serialize

from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.details import Details
from d2serve.handlers.runtimes.raw_outputs import Float32, RawOutputs, Size
from d2serve.handlers.runtimes.torch_threads import TorchThreads
from d2serve.handlers.runtimes.torchvision_operators import register
from d2serve.handlers.spec.model_spec import ModelSpec

register()


class TorchExportRuntime:
    """A graph of torch operators on the CPU."""

    on_gpu = False

    def __init__(self, graph: torch.nn.Module, spec: ModelSpec, threads: int) -> None:
        self._graph = graph
        self._outputs = spec.outputs
        self._threads = TorchThreads(threads)

    def set_threads(self, threads: int) -> None:
        """Use this many threads within an operator."""
        self._threads = TorchThreads(threads)

    def run(
        self,
        images: Sequence[Float32],
        sizes: Sequence[Size] = (),  # noqa: ARG002 (a program holds no postprocessing)
        details: Sequence[Details] = (),  # noqa: ARG002 (and makes all masks)
    ) -> list[RawOutputs]:
        """See ``Runtime.run``; one image after the other."""
        self._threads.use()
        with torch.inference_mode():
            answers = [self._graph(torch.from_numpy(image)) for image in images]
        return [
            {name: tensor.numpy() for name, tensor in zip(self._outputs, each)} for each in answers
        ]


def load(program: Path, spec: ModelSpec, device: str, threads: int) -> TorchExportRuntime:
    """Load a program of torch.export.

    Raises:
        LoadError: a GPU is asked for, or this torch cannot read the program.
    """
    if device != "cpu":
        raise LoadError(
            f"Asked to run on {device}, but programs of torch.export run on the CPU here. "
            "Start TorchServe without GPUs (number_of_gpu=0), or export with --format torchscript."
        )
    try:
        with _expressions_read_once():
            exported = torch.export.load(str(program))
        graph = exported.module()
    except Exception as error:  # of many kinds, without a common base
        exported_with = spec.versions.get("torch", "an unknown version")
        raise LoadError(
            f"torch {torch.__version__} cannot load {program.name}, which was exported with torch "
            f"{exported_with} ({' '.join(str(error).split())[:300]}). "
            "Serve with that version, or export again with this one."
        ) from error
    return TorchExportRuntime(graph, spec, threads)


@contextmanager
def _expressions_read_once() -> Iterator[None]:
    """Let torch parse each size of a tensor once: parsing is most of a load, and sizes recur."""
    reader: Any = getattr(serialize, "GraphModuleDeserializer", None)
    before = getattr(reader, "_parse_sym_expr", None)
    if before is None:  # another torch
        yield
        return

    def parsed(self: Any, text: Any, *hint: Any) -> Any:
        if not isinstance(text, str):
            return before(self, text, *hint)
        known = vars(self).setdefault("_d2serve_parsed", {})
        if text not in known:
            known[text] = before(self, text, *hint)
        return known[text]

    reader._parse_sym_expr = parsed
    try:
        yield
    finally:
        reader._parse_sym_expr = before
