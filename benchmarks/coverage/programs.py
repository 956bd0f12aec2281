"""The programs of a row, made by the exporter's own functions.

ONNX Runtime and OpenVINO share one trace and one graph, as these take longest; the C++ program runs
what Python runs, and so do our convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from benchmarks.coverage.record import (
    CPP_LIBTORCH,
    CPP_OPENVINO,
    GRAPH_KINDS,
    ONNXRUNTIME,
    ONNXRUNTIME_WINOGRAD,
    OPENVINO,
    OPENVINO_WINOGRAD,
    SCRIPTING,
    TRACING,
)
from d2serve.export.archive.describing import spec_for
from d2serve.export.errors import UnsupportedFamily
from d2serve.export.programs.building import Order, write_program
from d2serve.export.programs.openvino import from_onnx, save
from d2serve.export.programs.program import Program
from d2serve.export.programs.unexportable import why_unexportable
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.families import Family
from d2serve.export.reading.image_form import image_form_of
from d2serve.export.reading.names.given import Names
from d2serve.export.request import ExportRequest
from d2serve.handlers.spec.model_spec import SPEC_FILE, ModelSpec
from d2serve.handlers.spec.runtimes import (
    ONNX,
    RUNTIMES,
    TORCH_EXPORT,
    TORCHSCRIPT,
    RuntimeFacts,
)

_SHARED = {
    CPP_OPENVINO: OPENVINO,
    CPP_LIBTORCH: TRACING,
    ONNXRUNTIME_WINOGRAD: ONNXRUNTIME,
    OPENVINO_WINOGRAD: OPENVINO,
}
"""Kinds that run the program of another kind."""
_OF_GRAPHS = dict(zip(GRAPH_KINDS, (ONNXRUNTIME, OPENVINO)))
_OF_TORCHSCRIPT = RUNTIMES[TORCHSCRIPT].methods


@dataclass(frozen=True)
class Subject:
    """What is exported."""

    source: ConfigSource
    config: ModelConfig
    model: nn.Module
    family: Family
    inputs: tuple[torch.Tensor, ...]
    """As ``tracing.program_inputs`` gives them, of an image with detections in it."""


class Programs:
    """Makes the programs of a model, each in a folder of its own."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self._subject = subject
        self._folder = folder
        self._onnx: dict[str, Program | Exception] = {}
        self._made: dict[str, Program] = {}

    def make(self, kind: str) -> Program:
        """One program, with its spec beside it.

        Raises:
            ExportError: it cannot be made; the message says why.
        """
        kind = _SHARED.get(kind, kind)
        if kind not in self._made:
            self._made[kind] = self._new(kind)
        return self._made[kind]

    def _new(self, kind: str) -> Program:
        refusal = why_unexportable(self._subject.model, _runtime_of(kind), _method_of(kind))
        if refusal is not None:
            raise UnsupportedFamily(refusal)
        facts, method = _runtime_of(kind), _method_of(kind)
        if facts.format != ONNX:
            program = self._write(kind, method, facts.format, facts.name)
        else:
            program = self._in_onnx(method)
        if facts.name == OPENVINO:
            program = replace(program, main=save(from_onnx(program.main), self._new_folder(kind)))
        spec = self._spec(kind, program)
        (program.main.parent / SPEC_FILE).write_text(spec.to_json(), encoding="utf-8")
        return program

    def _in_onnx(self, method: str) -> Program:
        if method not in self._onnx:
            try:
                self._onnx[method] = self._write(f"onnx_{method}", method, ONNX, ONNXRUNTIME)
            except Exception as error:  # what is made of it is refused for the same reason
                self._onnx[method] = error
        made = self._onnx[method]
        if isinstance(made, Exception):
            raise made
        return made

    def _write(self, name: str, method: str, format_: str, runtime: str) -> Program:
        subject = self._subject
        request = ExportRequest(subject.source, method, name, format=format_, runtime=runtime)
        folder = self._new_folder(name)
        order = Order(request, subject.model, subject.family, subject.inputs, folder, {})
        return write_program(order)

    def _new_folder(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return folder

    def _spec(self, kind: str, program: Program) -> ModelSpec:
        subject = self._subject
        return spec_for(
            program,
            subject.family,
            image_form_of(subject.model, subject.config),
            Names(None, None),
            None,
            name=kind,
            method=_method_of(kind),
            runtime=_runtime_of(kind).name,
            dynamic_batch=kind == SCRIPTING,
            min_size_test=subject.config.min_size_test,
            max_size_test=subject.config.max_size_test,
            size_divisibility=0,  # for information only
            made_with=(),
        )


def _method_of(kind: str) -> str:
    if kind in _OF_GRAPHS:
        return TORCH_EXPORT
    return kind if kind in _OF_TORCHSCRIPT else TRACING


def _runtime_of(kind: str) -> RuntimeFacts:
    return RUNTIMES[TORCHSCRIPT if kind in _OF_TORCHSCRIPT else _OF_GRAPHS.get(kind, kind)]
