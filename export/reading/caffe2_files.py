"""Reads Caffe2's files that somebody has, and what they say of the model that they were made of.

They say less than a config: the network's thresholds and outputs, but neither how images are
resized nor what its classes are called.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from d2serve.export.errors import ConfigError
from d2serve.export.reading.family import Family
from d2serve.handlers.errors import LoadError, ModelFailed
from d2serve.handlers.netdef.arguments import Arguments
from d2serve.handlers.netdef.detection import PANOPTIC, RETINANET, DetectionNetwork
from d2serve.handlers.netdef.files import NET_FILE, WEIGHTS_FILE, read_nets
from d2serve.handlers.netdef.messages import NetDef, OperatorDef
from d2serve.handlers.netdef.network import Network
from d2serve.handlers.netdef.retinanet import as_written
from d2serve.handlers.spec.output_names import BOXES, HEATMAPS, KEYPOINTS, MASKS, SEM_SEG

_SIDE = 64  # pixels, of an image by which labels are counted
# What a class's scores go through between the layer that makes them and the choice of boxes.
_PASSED = ("Softmax", "Sigmoid", "Copy", "Squeeze", "Reshape", "Flatten")


@dataclass(frozen=True)
class Caffe2Files:
    """A model in Caffe2's files."""

    folder: Path
    network: DetectionNetwork
    family: Family
    """As far as the files say."""
    num_labels: int | None
    """Of sem_seg."""

    @property
    def channels(self) -> int:
        """Of the images that it takes."""
        return len(self.network.pixel_mean)

    @property
    def files(self) -> tuple[Path, Path]:
        """The network, and its weights."""
        return self.folder / NET_FILE, self.folder / WEIGHTS_FILE


def read_caffe2_files(folder: Path) -> Caffe2Files:
    """Read ``model.pb`` and ``model_init.pb`` of a folder, of whichever tracer wrote them.

    Raises:
        ConfigError: they are missing, damaged, or not to be run; the message says why.
    """
    try:
        net, fills = read_nets(folder)
        network = DetectionNetwork(Network(net, fills))
        num_labels = _labels(network)
    except (LoadError, ModelFailed) as error:
        raise ConfigError(f"--from-caffe2 {folder}: {error}") from error
    graph = _Graph(net, fills)
    family = Family(_name(net, network), network.outputs, None)
    if network.meta_architecture == RETINANET:
        family = replace(family, num_classes=graph.dense_classes(), **_of_retinanet(net))
    elif BOXES in network.outputs:
        family = replace(family, num_classes=graph.roi_classes(), **_of_rcnn(graph))
    family = replace(family, panoptic=network.panoptic)
    return Caffe2Files(folder, network, family, num_labels)


def _labels(network: DetectionNetwork) -> int | None:
    if SEM_SEG not in network.outputs:
        return None
    image = torch.zeros(len(network.pixel_mean), _SIDE, _SIDE)
    return int(network.answer(image)[SEM_SEG].shape[0])


def _name(net: NetDef, network: DetectionNetwork) -> str:
    if network.meta_architecture == RETINANET:
        return "RetinaNet"
    if BOXES not in network.outputs:
        return "Semantic segmentation"
    masks = MASKS in network.outputs
    keypoints = bool({KEYPOINTS, HEATMAPS} & set(network.outputs))
    kinds = {
        (False, False): "Faster R-CNN",
        (True, False): "Mask R-CNN",
        (False, True): "Keypoint R-CNN",
        (True, True): "Mask and Keypoint R-CNN",
    }
    levels = any(each.type == "CollectRpnProposals" for each in net.op)
    name = f"{kinds[masks, keypoints]} {'FPN' if levels else 'on one level'}"
    return f"Panoptic FPN ({name})" if network.meta_architecture == PANOPTIC else name


def _of_retinanet(net: NetDef) -> dict[str, Any]:
    """Thresholds of score and NMS, and the most detections of an image."""
    args = Arguments(net.arg)
    return {
        "score_thresh": as_written(args.number("score_threshold")),
        "nms_thresh": as_written(args.number("nms_threshold")),
        "detections_per_image": args.integer("max_detections_per_image"),
    }


def _of_rcnn(graph: _Graph) -> dict[str, Any]:
    args = Arguments(graph.choice_of_boxes().arg)
    return {
        "score_thresh": as_written(args.number("score_thresh", 0.05)),
        "nms_thresh": as_written(args.number("nms", 0.3)),
        "detections_per_image": args.integer("detections_per_im", 100),
    }


class _Graph:
    """Which operator makes what, and the shapes of the weights."""

    def __init__(self, net: NetDef, fills: NetDef) -> None:
        self._operators = net.op
        self._makers = {name: each for each in net.op for name in each.output}
        self._shapes = {each.output[0]: Arguments(each.arg).integers("shape") for each in fills.op}

    def choice_of_boxes(self) -> OperatorDef:
        """The operator that suppresses overlapping boxes and keeps the best ones."""
        return next(each for each in self._operators if each.type == "BoxWithNMSLimit")

    def roi_classes(self) -> int | None:
        """Classes that boxes are chosen by, or None where the files do not tell."""
        columns = self._columns(self.choice_of_boxes().input[0])
        return None if columns is None else columns - 1  # one is the background's

    def dense_classes(self) -> int | None:
        """Classes of RetinaNet: a map has so many for each anchor, and four deltas."""
        scores, deltas = (self._columns(f"box_{kind}_0") for kind in ("cls", "delta"))
        return None if scores is None or not deltas else scores * 4 // deltas

    def _columns(self, name: str) -> int | None:
        maker = self._makers.get(name)
        while maker is not None and maker.type in _PASSED:
            maker = self._makers.get(maker.input[0])
        if maker is None:
            return None
        if maker.type == "Concat":  # scores, and a column of zeros for the background
            found = self._columns(maker.input[0])
            return None if found is None else found + 1
        shape = self._shapes.get(maker.input[1], ()) if len(maker.input) > 1 else ()
        return shape[0] if shape else None
