"""The programs of a row, made by the exporter's own functions.

What is made of an ONNX program shares one trace, as it takes longest; the C++ program runs what
Python runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.coverage.record import (
    CPP_LIBTORCH,
    CPP_OPENVINO,
    ONNXRUNTIME,
    OPENVINO,
    SCRIPTING,
    TENSORFLOW,
    TRACING,
)
from d2serve.export.errors import UnsupportedFamily
from d2serve.export.programs.building import Order, write_program
from d2serve.export.programs.openvino import from_onnx, save
from d2serve.export.programs.program import Program
from d2serve.export.programs.unexportable import why_unexportable
from d2serve.export.reading.config import ConfigSource, ModelConfig
from d2serve.export.reading.families import Family
from d2serve.export.request import ExportRequest
from d2serve.handlers.spec.model_spec import SPEC_FILE, ModelSpec
from d2serve.handlers.spec.runtimes import (
    FP32,
    METHODS,
    ONNX,
    RUNTIMES,
    TORCHSCRIPT,
    RuntimeFacts,
)


def _openvino(onnx: Path, folder: Path) -> Path:
    return save(from_onnx(onnx), folder)


def _tensorflow(onnx: Path, folder: Path) -> Path:
    from d2serve.export.programs.tensorflow.converting import convert  # brings TensorFlow

    convert(onnx).save(folder)
    return folder / RUNTIMES[TENSORFLOW].main_file


_OF_ONNX = {OPENVINO: _openvino, TENSORFLOW: _tensorflow}
"""What makes a program of an ONNX file, in an empty folder, by kind."""
_RUN_IN_CPP = {CPP_OPENVINO: OPENVINO, CPP_LIBTORCH: TRACING}
"""The program that the C++ program runs with either engine, by its kind in Python."""


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
        self._onnx: Program | Exception | None = None
        self._made: dict[str, Program] = {}

    def make(self, kind: str) -> Program:
        """One program, with its spec beside it.

        Raises:
            ExportError: it cannot be made; the message says why.
        """
        kind = _RUN_IN_CPP.get(kind, kind)
        if kind not in self._made:
            self._made[kind] = self._new(kind)
        return self._made[kind]

    def _new(self, kind: str) -> Program:
        refusal = why_unexportable(self._subject.model, _runtime_of(kind), _method_of(kind))
        if refusal is not None:
            raise UnsupportedFamily(refusal)
        if kind in METHODS:
            program = self._write(kind, kind, TORCHSCRIPT, TORCHSCRIPT)
        elif kind == ONNXRUNTIME:
            program = self._traced()
        elif kind in _OF_ONNX:
            program = self._converted(kind, self._traced())
        else:
            facts = RUNTIMES[kind]
            program = self._write(kind, TRACING, facts.format, facts.name)
        spec = self._spec(kind, program)
        (program.main.parent / SPEC_FILE).write_text(spec.to_json(), encoding="utf-8")
        return program

    def _traced(self) -> Program:
        if self._onnx is None:
            try:
                self._onnx = self._write("onnx", TRACING, ONNX, ONNXRUNTIME)
            except Exception as error:  # what is made of it is refused for the same reason
                self._onnx = error
        if isinstance(self._onnx, Exception):
            raise self._onnx
        return self._onnx

    def _converted(self, kind: str, traced: Program) -> Program:
        main = _OF_ONNX[kind](traced.main, self._new_folder(kind))
        return Program(main, traced.outputs, traced.doubts, traced.rewrites)

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
        family, config = self._subject.family, self._subject.config
        return ModelSpec(
            name=kind,
            family=family.name,
            method=_method_of(kind),
            runtime=_runtime_of(kind).name,
            precision=FP32,
            program=program.main.name,
            sha256=program.hashes(),
            image_format=config.image_format,
            min_size_test=config.min_size_test,
            max_size_test=config.max_size_test,
            size_divisibility=0,  # for information only
            outputs=program.outputs,
            box_mode=family.box_mode,
            class_names=None,
            stuff_class_names=None,
            panoptic=family.panoptic,
            score_thresh=family.score_thresh,
            nms_thresh=family.nms_thresh,
            detections_per_image=family.detections_per_image,
            mask_threshold=0.5,
            dynamic_batch=kind == SCRIPTING,
            rewrites=program.rewrites,
            versions={},
            verification={},
            accuracy={},
            postprocessed=family.postprocessed,
        )


def _method_of(kind: str) -> str:
    return kind if kind in METHODS else TRACING


def _runtime_of(kind: str) -> RuntimeFacts:
    return RUNTIMES[TORCHSCRIPT if kind in METHODS else kind]
