"""All that is true of a runtime, in one table: the one place that a new runtime is entered in.

Loading, the spec's checks, the exporter, its doctor and its bounds, the model's metadata, the
check of an archive, the command line's help and the tests read it. It imports no runtime.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from d2serve.handlers.spec.bounds import (
    CAFFE2_BOUNDS,
    ONNX_BOUNDS,
    TORCH_EXPORT_BOUNDS,
    TORCHSCRIPT_BOUNDS,
    Bounds,
)

TORCHSCRIPT, ONNXRUNTIME, OPENVINO = "torchscript", "onnxruntime", "openvino"
CAFFE2 = "caffe2"
TENSORFLOW = "tensorflow"
TENSORRT = "tensorrt"
TORCH_EXPORT = "torch_export"
"""The runtime, and the method of export that makes another format's program of a graph of it."""
TRACING, SCRIPTING = "tracing", "scripting"
METHODS = (TRACING, SCRIPTING, TORCH_EXPORT)
"""Of export."""
_PACKAGES_OF_METHODS = {TORCH_EXPORT: ("onnxscript",)}
ONNX = "onnx"
"""The format of ONNX Runtime's programs, from which OpenVINO's and TensorFlow's are made."""
TRACED_FORMATS = (ONNX, TORCH_EXPORT)
"""Whose programs are made of a model that tracing takes: their rewrites are tracing's and more."""
FP32, BF16, INT8, FP16 = "fp32", "bf16", "int8", "fp16"


@dataclass(frozen=True)
class RuntimeFacts:
    """What is true of one runtime."""

    name: str
    """As options and ``model_spec.json`` have it; it is the name of the extra to install, too."""
    title: str
    """As its makers write it."""
    format: str
    """Of ``--format``: what torch exports for it, unless its programs are ``made_from`` that."""
    module: str
    """Ours, with ``load(program, spec, device, threads)``, and of one that may run Winograd's
    convolutions ``load(..., convolution)``; imported by workers that need it."""
    package: str
    """What that module imports; it is missing where the extra is not installed."""
    export_extra: str
    """Extra of this project with which programs for it can be made."""
    export_packages: tuple[str, ...]
    """What programs for it are made with, whatever the method, beside torch."""
    main_file: str
    """Of a program; the others lie beside it."""
    platform: str
    """As the Open Inference Protocol's metadata names it: the project, then its format."""
    methods: tuple[str, ...]
    """Of export, by which programs for it can be made."""
    batching_methods: tuple[str, ...]
    """Those of them whose programs take several images in one call, each by itself."""
    joining_methods: tuple[str, ...]
    """Those whose programs do so where they are asked for (``--dynamic-batch``): all images in one
    array, padded to the largest."""
    precisions: tuple[str, ...]
    """The first is that of a program as it is exported."""
    runs_on_gpu: bool
    needs_torch: bool
    """Otherwise a worker finds a stand-in for torch, and starts without it."""
    bounds: Bounds
    """Within which its answers in fp32 are detectron2's."""
    made_from: str = ""
    """The format that torch exports and its programs are converted from, where that is not the
    format that users ask for: what that one refuses is refused for this runtime too."""
    frozen_file: str = ""
    """Main file of a program that holds its weights as constants (``--frozen``); empty where the
    runtime has no such programs."""
    frozen_platform: str = ""
    """The platform of such a program."""
    fp32_methods: tuple[str, ...] = ()
    """Methods whose programs are not brought to a lower precision."""
    keeps_nms: tuple[str, ...] = ()
    """Methods by whose programs NMS is chosen for each image, as eager torchvision does."""
    winograd: Bounds | None = None
    """Within which its answers are detectron2's with Winograd's convolutions of our own in the
    place of its own; None where it takes none. By themselves, they are taken only where these are
    its ``bounds``."""
    numbered: bool = False
    """Whether its makers' server wants the main file, and what lies beside it, in a folder of a
    version's number."""
    needs_gpu: bool = False
    """Whether its programs run on a GPU only, so that without one they cannot be verified."""

    @property
    def takes_winograd_itself(self) -> bool:
        """Whether a server takes Winograd's convolutions without being told to: not where that is
        further from eager detectron2 than the runtime itself."""
        return self.winograd is not None and self.winograd == self.bounds

    def way(self, method: str) -> str:
        """What rewrites name as the way to a program: the method, or the format made from it."""
        return method if self.format == TORCHSCRIPT else self.made_from or self.format

    def made_with(self, method: str) -> tuple[str, ...]:
        """What programs for it are made with, beside torch; their versions are recorded."""
        return (*self.export_packages, *_PACKAGES_OF_METHODS.get(method, ()))

    def platform_of(self, program: str) -> str:
        """The platform of a program, by the name of its main file."""
        return self.frozen_platform if program == self.frozen_file else self.platform


RUNTIMES: dict[str, RuntimeFacts] = {
    each.name: each
    for each in (
        RuntimeFacts(
            name=TORCHSCRIPT,
            title="TorchScript",
            format=TORCHSCRIPT,
            module="d2serve.handlers.runtimes.torchscript",
            package="torch",
            export_extra="export",
            export_packages=(),
            main_file="model.pt",
            platform="pytorch_torchscript",
            methods=(TRACING, SCRIPTING),
            batching_methods=(SCRIPTING,),
            joining_methods=(),
            precisions=(FP32,),
            runs_on_gpu=True,
            needs_torch=True,
            bounds=TORCHSCRIPT_BOUNDS,
            keeps_nms=(TRACING, SCRIPTING),
            winograd=ONNX_BOUNDS,
        ),
        RuntimeFacts(
            name=ONNXRUNTIME,
            title="ONNX Runtime",
            format=ONNX,
            module="d2serve.handlers.runtimes.onnxruntime",
            package="onnxruntime",
            export_extra="export",
            export_packages=("onnx", "onnxruntime"),
            main_file="model.onnx",
            platform="onnx_onnxv1",
            methods=(TRACING, TORCH_EXPORT),
            batching_methods=(),
            joining_methods=(TRACING,),
            precisions=(FP32,),
            runs_on_gpu=True,
            needs_torch=False,
            bounds=ONNX_BOUNDS,
            keeps_nms=(TORCH_EXPORT,),
            winograd=ONNX_BOUNDS,
        ),
        RuntimeFacts(
            name=OPENVINO,
            title="OpenVINO",
            format=ONNX,
            module="d2serve.handlers.runtimes.openvino",
            package="openvino",
            export_extra="export-openvino",
            export_packages=("onnx", "openvino"),
            main_file="model.xml",
            platform="openvino_ir",
            methods=(TRACING, TORCH_EXPORT),
            batching_methods=(),
            joining_methods=(TRACING,),
            precisions=(FP32, BF16, INT8),
            runs_on_gpu=False,
            needs_torch=False,
            bounds=ONNX_BOUNDS,
            fp32_methods=(TORCH_EXPORT,),
            keeps_nms=(TORCH_EXPORT,),
            winograd=ONNX_BOUNDS,
        ),
        RuntimeFacts(
            name=TENSORRT,
            title="TensorRT",
            format=ONNX,
            module="d2serve.handlers.runtimes.tensorrt",
            package="tensorrt",
            export_extra="export-tensorrt",
            export_packages=("onnx", "tensorrt"),
            main_file="model.onnx",
            platform="onnx_tensorrt",
            methods=(TRACING,),
            batching_methods=(),
            joining_methods=(),
            precisions=(FP32, FP16),
            runs_on_gpu=True,
            needs_torch=False,
            bounds=ONNX_BOUNDS,
            needs_gpu=True,
        ),
        RuntimeFacts(
            name=CAFFE2,
            title="Caffe2",
            format=CAFFE2,
            module="d2serve.handlers.runtimes.caffe2",
            package="torch",
            export_extra="export",
            export_packages=(),
            main_file="model.pb",
            platform="caffe2_netdef",
            methods=(TRACING,),
            batching_methods=(),
            joining_methods=(),
            precisions=(FP32,),
            runs_on_gpu=False,
            needs_torch=True,
            bounds=CAFFE2_BOUNDS,
        ),
        RuntimeFacts(
            name=TENSORFLOW,
            title="TensorFlow",
            format="tensorflow",
            module="d2serve.handlers.runtimes.tensorflow",
            package="tensorflow",
            export_extra="export-tensorflow",
            export_packages=("onnx", "tensorflow"),
            main_file="saved_model.pb",
            platform="tensorflow_savedmodel",
            methods=(TRACING,),
            batching_methods=(),
            joining_methods=(),
            precisions=(FP32,),
            runs_on_gpu=False,
            needs_torch=False,
            bounds=ONNX_BOUNDS,
            made_from=ONNX,
            frozen_file="frozen_graph.pb",
            frozen_platform="tensorflow_graphdef",
            numbered=True,
        ),
        RuntimeFacts(
            name=TORCH_EXPORT,
            title="torch.export",
            format=TORCH_EXPORT,
            module="d2serve.handlers.runtimes.torch_export",
            package="torch",
            export_extra="export",
            export_packages=(),
            main_file="model.pt2",
            platform="pytorch_export",
            methods=(TRACING,),
            batching_methods=(),
            joining_methods=(),
            precisions=(FP32,),
            runs_on_gpu=False,
            needs_torch=True,
            bounds=TORCH_EXPORT_BOUNDS,
            keeps_nms=(TRACING,),
        ),
    )
}
"""By name. The first runtime of a format is the one that is taken where none is named."""


def formats() -> tuple[str, ...]:
    """The formats that programs can be exported in."""
    return _once(facts.format for facts in RUNTIMES.values())


def runtimes_of(format_: str) -> tuple[str, ...]:
    """Names of the runtimes that take a format, the default one first."""
    return tuple(name for name, facts in RUNTIMES.items() if facts.format == format_)


def precisions() -> tuple[str, ...]:
    """Every precision that a runtime knows."""
    return _once(each for facts in RUNTIMES.values() for each in facts.precisions)


def runtimes_in(precision: str) -> tuple[str, ...]:
    """Names of the runtimes that know a precision."""
    return tuple(name for name, facts in RUNTIMES.items() if precision in facts.precisions)


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
