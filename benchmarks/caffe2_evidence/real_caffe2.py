"""Runs in the legacy environment: upstream's tracer and wrapper, and Caffe2 itself.

Caffe2 left PyTorch after 1.9, so this file is for Python 3.8 and torch 1.9.1 and imports nothing of
the project. It takes the path of a JSON file of steps, and does them in order:

    {"do": "trace", "config": YAML, "weights": PTH, "image": NPY, "heatmap_max": bool, "to": FOLDER}
    {"do": "net", "files": FOLDER, "inputs": NPZ, "to": NPZ}
    {"do": "wrapper", "files": FOLDER, "images": [NPY, ...], "short": int, "long": int,
     "to": [NPZ, ...]}

``trace`` writes model.pb and model_init.pb as upstream's ``Caffe2Tracer`` does; the image is
(H, W, 3) in the config's channel order. ``net`` runs Caffe2 on each ``NAME/data`` and
``NAME/im_info`` of the inputs and keeps ``NAME/OUTPUT``, the raw outputs. ``wrapper`` runs
upstream's ``Caffe2Model`` as its documentation does, from the image as a file has it: images
resized as ``ResizeShortestEdge`` does, then the answer in the size of the image.

With the environment variable DETECTRON2, another detectron2's folder comes first: upstream's tracer
knew PanopticFPN until 0.5.
"""

from __future__ import annotations

import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

if "DETECTRON2" in os.environ:
    sys.path.insert(0, os.environ["DETECTRON2"])
    # Its layers import the compiled part, which none of these models calls.
    sys.modules["detectron2._C"] = types.ModuleType("detectron2._C")
    torch.ops.detectron2 = types.SimpleNamespace(nms_rotated=None)


def trace(step: dict[str, Any]) -> None:
    import detectron2.export as exporting
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    cfg = get_cfg()
    if hasattr(exporting, "add_export_config"):
        cfg = exporting.add_export_config(cfg)
    cfg.merge_from_file(step["config"])
    cfg.MODEL.DEVICE = "cpu"
    if step.get("heatmap_max"):
        if "EXPORT_CAFFE2" not in cfg:
            from detectron2.config import CfgNode

            cfg.EXPORT_CAFFE2 = CfgNode()
        cfg.EXPORT_CAFFE2.USE_HEATMAP_MAX_KEYPOINT = True
    model = build_model(cfg)
    DetectionCheckpointer(model).load(step["weights"])
    model.eval()
    image = torch.from_numpy(np.load(step["image"]).astype("float32").transpose(2, 0, 1).copy())
    inputs = [{"image": image, "height": image.shape[1], "width": image.shape[2]}]
    with torch.no_grad():
        exporting.Caffe2Tracer(cfg, model, inputs).export_caffe2().save_protobuf(step["to"])


def nets(folder: str) -> list[Any]:
    from caffe2.proto import caffe2_pb2

    read = []
    for name in ("model.pb", "model_init.pb"):
        net = caffe2_pb2.NetDef()
        net.ParseFromString((Path(folder) / name).read_bytes())
        read.append(net)
    return read


def run_net(step: dict[str, Any]) -> None:
    from caffe2.python import workspace

    predict, init = nets(step["files"])
    workspace.ResetWorkspace()
    workspace.RunNetOnce(init)
    for name in ("data", "im_info"):
        workspace.FeedBlob(name, np.zeros((1,), np.float32))
    workspace.CreateNet(predict)
    given, answers = np.load(step["inputs"]), {}
    for key in given.files:
        name, _, what = key.rpartition("/")
        if what != "data":
            continue
        workspace.FeedBlob("data", given[key])
        workspace.FeedBlob("im_info", given[name + "/im_info"])
        workspace.RunNet(predict.name)
        for output in predict.external_output:
            answers[name + "/" + output] = workspace.FetchBlob(output)
    np.savez_compressed(step["to"], **answers)


def run_wrapper(step: dict[str, Any]) -> None:
    from detectron2.data.transforms import ResizeShortestEdge
    from detectron2.export import Caffe2Model

    model = Caffe2Model.load_protobuf(step["files"])
    resize = ResizeShortestEdge([step["short"]] * 2, step["long"])
    for image, to in zip(step["images"], step["to"]):
        pixels = np.load(image)
        resized = resize.get_transform(pixels).apply_image(pixels)
        tensor = torch.from_numpy(resized.astype("float32").transpose(2, 0, 1).copy())
        given = {"image": tensor, "height": pixels.shape[0], "width": pixels.shape[1]}
        found = model([given])[0]
        fields = found["instances"].get_fields()
        kept = {k: getattr(v, "tensor", v).numpy() for k, v in fields.items()}
        if "sem_seg" in found:
            kept["sem_seg"] = found["sem_seg"].argmax(dim=0).numpy()
        np.savez_compressed(to, **kept)


STEPS = {"trace": trace, "net": run_net, "wrapper": run_wrapper}

if __name__ == "__main__":
    for each in json.loads(Path(sys.argv[1]).read_text()):
        STEPS[each["do"]](each)
