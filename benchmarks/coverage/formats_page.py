"""docs/formats.md, made from the record of the runs and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.coverage.page import compared, cpus, days, in_words, letters_of, messages
from benchmarks.coverage.record import (
    CAFFE2,
    CPP_LIBTORCH,
    CPP_OPENVINO,
    FORMAT_KINDS,
    HELD_OUT,
    ONNXRUNTIME,
    ONNXRUNTIME_GRAPH,
    ONNXRUNTIME_WINOGRAD,
    OPENVINO,
    OPENVINO_GRAPH,
    OPENVINO_WINOGRAD,
    SCRIPTING,
    TENSORFLOW,
    TORCH_EXPORT,
    TRACING,
    Coverage,
)

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "formats.md"

_TITLES = {
    TRACING: "TorchScript, tracing",
    SCRIPTING: "TorchScript, scripting, with batches",
    ONNXRUNTIME: "ONNX Runtime",
    OPENVINO: "OpenVINO",
    ONNXRUNTIME_WINOGRAD: "ONNX Runtime, `convolution: winograd`",
    OPENVINO_WINOGRAD: "OpenVINO, `convolution: winograd`",
    CPP_OPENVINO: "C++, OpenVINO",
    CPP_LIBTORCH: "C++, libtorch",
    CAFFE2: "Caffe2",
    TENSORFLOW: "TensorFlow",
    TORCH_EXPORT: "torch.export",
    ONNXRUNTIME_GRAPH: "ONNX Runtime, `torch_export`",
    OPENVINO_GRAPH: "OpenVINO, `torch_export`",
}


def render(coverage: Coverage) -> str:
    """The page as Markdown."""
    rows = coverage.examples
    parts = [
        _INTRODUCTION.format(
            versions=", ".join(f"{name} {version}" for name, version in coverage.versions.items()),
            cpu=cpus(rows),
            days=days(rows),
            held_out=HELD_OUT,
        ),
        *_table(coverage),
        *messages(rows),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _table(coverage: Coverage) -> Iterable[str]:
    letters = letters_of(coverage)
    titles = ["family", "example model", "compared", *(_TITLES[kind] for kind in FORMAT_KINDS)]
    yield f"| {' | '.join(titles)} |"
    yield f"| --- | --- | ---: |{' --- |' * len(FORMAT_KINDS)}"
    for row in coverage.examples.values():
        cells = (
            in_words(row.cells[kind], letters) if kind in row.cells else "not run"
            for kind in FORMAT_KINDS
        )
        yield f"| {' | '.join([row.family or '', row.config, compared(row), *cells])} |"


_INTRODUCTION = """\
# Formats: one model, every door

`make formats-table` makes this page from real runs: each trained example model is exported to every
format by the exporter's own functions, loaded as it is in production, and asked beside eager
detectron2 (`DefaultPredictor`; for a LazyConfig the same steps with its own model; for a batch the
model itself) about {held_out} generated images that no model was trained on. Nothing here is
written by hand.

Made {days} on {cpu}, one thread, with {versions}.

A cell says what differs most from eager detectron2 over all images: box coordinates in pixels,
scores (logits, of proposals), keypoints; masks that are not identical, pixels with another label. 0
means that no digit differs. Of a format that a family is refused in, it has the reason, which
stands below in full and which `d2serve doctor` gives beforehand. r1, r2, ... are
[rewrites](coverage.md#rewrites). The bounds of each runtime are in `handlers/spec/bounds.py`. The
columns of ONNX Runtime and OpenVINO are of their own convolutions; with `convolution: winograd` the
same programs run every layer that fits in [our native code](kernels.md), within the same bounds.
The C++ program runs the very programs of two other columns, and is held to their bounds: with
OpenVINO that of OpenVINO, with libtorch the traced one. "compared" counts the instances, proposals
or labels in detectron2's answers.
"""
