"""The example models, the ways in which each is exported, and which of them `make test` asks.

Every model in every way takes long, and a fault of a way or of a family shows wherever that way or
that family is asked. So `make test` asks one model in every way, each other model in one way, and
every way of several models. `make test-all` asks everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import pytest

from d2serve.handlers.spec.runtimes import (
    CAFFE2,
    TENSORFLOW,
    TORCH_EXPORT,
    TORCHSCRIPT,
)
from d2serve.handlers.spec.runtimes import RUNTIMES as _RUNTIMES

METHODS = _RUNTIMES[TORCHSCRIPT].methods
"""By which TorchScript's archives are called."""
RUNTIMES = tuple(
    name for name, facts in _RUNTIMES.items() if name != TORCHSCRIPT and not facts.needs_gpu
)
"""Whose archives are called by their names. Those that need a GPU are asked by `make gpu` alone."""
ON_A_CPU = (TORCHSCRIPT, *RUNTIMES)
"""Every runtime that does not need a GPU."""
KINDS = (*METHODS, *RUNTIMES)
"""Of archives, in which every family is asked: TorchScript by either method, and the others."""
WITHOUT_GRAPH = tuple(kind for kind in KINDS if kind != TORCH_EXPORT)
"""Those of the families that torch.export does not take as one graph."""
WITHOUT_CAFFE2 = tuple(kind for kind in WITHOUT_GRAPH if kind != CAFFE2)
"""Those of the families that Caffe2's files cannot hold either, and of models of the user's own."""
MODELS = (
    "faster_rcnn_fpn",
    "mask_rcnn_fpn",
    "keypoint_rcnn_fpn",
    "retinanet",
    "faster_rcnn_c4",
    "mask_rcnn_dc5",
)
"""Those that upstream's own tools export."""
KINDS_OF = {model: WITHOUT_GRAPH if model == "faster_rcnn_c4" else KINDS for model in MODELS}
"""Of those, the kinds that there are."""
FAMILIES = {
    "cascade_mask_rcnn_fpn": KINDS,
    "panoptic_fpn": WITHOUT_GRAPH,
    "semantic_fpn": WITHOUT_GRAPH,
    "rpn_fpn": WITHOUT_CAFFE2,
    "fcos": (*WITHOUT_CAFFE2, TORCH_EXPORT),
    "mask_rcnn_dconv_fpn": WITHOUT_CAFFE2,
    "point_rend": WITHOUT_CAFFE2,
    "vitdet": WITHOUT_CAFFE2,
    "regnet_mask_rcnn": KINDS,
    "swin_mask_rcnn": WITHOUT_CAFFE2,
    "mvitv2_cascade": WITHOUT_CAFFE2,
    "mask_rcnn_gn_cls_agnostic": KINDS,
    "deeplab_v3plus": WITHOUT_CAFFE2,
    "panoptic_deeplab": METHODS,
    "rotated_faster_rcnn_fpn": METHODS,
}
"""Those that upstream's own tools do not export in every kind, with the kinds that there are."""
IN_BATCHES = {"onnxruntime_batches": "onnxruntime", "openvino_batches": "openvino"}
"""Kinds of archives that are exported with --dynamic-batch, and their runtimes."""
OF_GRAPHS = {"onnxruntime_graph": "onnxruntime", "openvino_graph": "openvino"}
"""Kinds of archives that are exported with --export-method torch_export, and their runtimes."""
RUNTIME_OF = {**dict.fromkeys(METHODS, TORCHSCRIPT), **IN_BATCHES, **OF_GRAPHS}
"""The runtimes of kinds of archives that are not called by it."""
STUFF_MODELS = ("panoptic_fpn", "semantic_fpn", "deeplab_v3plus", "panoptic_deeplab")
"""Those of images in which every pixel has a class."""

IN_THE_GATE = {
    "mask_rcnn_fpn": KINDS,
    "faster_rcnn_fpn": ("onnxruntime",),
    "keypoint_rcnn_fpn": ("scripting",),
    "retinanet": ("openvino", CAFFE2),
    "faster_rcnn_c4": ("tracing",),
    "mask_rcnn_dc5": ("onnxruntime",),
    "cascade_mask_rcnn_fpn": ("openvino",),
    "panoptic_fpn": ("scripting", TENSORFLOW),
    "semantic_fpn": ("tracing",),
    "rpn_fpn": ("scripting",),
    "fcos": ("tracing", TORCH_EXPORT),
    "mask_rcnn_dconv_fpn": ("onnxruntime",),
    "point_rend": ("scripting",),
    "vitdet": ("openvino",),
    "regnet_mask_rcnn": ("onnxruntime",),
    "swin_mask_rcnn": ("onnxruntime",),
    "mvitv2_cascade": ("tracing",),
    "mask_rcnn_gn_cls_agnostic": ("tracing",),
    "deeplab_v3plus": ("scripting",),
    "panoptic_deeplab": ("tracing",),
    "rotated_faster_rcnn_fpn": ("scripting",),
}
"""The kinds of each model that `make test` exports and serves."""


def kind_of(method: str, runtime: str) -> str:
    """The kind of archive that a method makes for a runtime."""
    if runtime == TORCHSCRIPT:
        return method
    return f"{runtime}_graph" if method == TORCH_EXPORT else runtime


def tiered(cases: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Cases of a test that begin with a model and a kind; those outside the gate are long."""
    return [
        pytest.param(
            *case,
            marks=(
                *(() if case[1] in IN_THE_GATE[case[0]] else (pytest.mark.long,)),
                *skipped(case[1]),
            ),
        )
        for case in cases
    ]


def installed(kinds: Iterable[str]) -> list[Any]:
    """Kinds or runtimes as a test's parameters; those that are not installed are skipped."""
    return [pytest.param(kind, marks=skipped(kind)) for kind in kinds]


def skipped(kind: str) -> tuple[pytest.MarkDecorator, ...]:
    """The marks of a test of this kind where its runtime is not installed; otherwise none."""
    facts = _RUNTIMES[RUNTIME_OF.get(kind, kind)]
    if find_spec(facts.package) is not None:
        return ()
    brings = "`make gpu`, on a machine with a GPU," if facts.needs_gpu else "`make dev`"
    return (pytest.mark.skip(reason=f"{facts.package} is not installed: {brings} brings it"),)


def asked(request: pytest.FixtureRequest, *names: str) -> list[tuple[str, ...]]:
    """The values of these parameters in the tests of the module that will run, each once."""
    found = (
        tuple(str(item.callspec.params[name]) for name in names)
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.path == request.path  # another module may be another process's
        and hasattr(item, "callspec")
        and set(names) <= set(item.callspec.params)
        and request.fixturename in item.fixturenames
    )
    return list(dict.fromkeys(found))
