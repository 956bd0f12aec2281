"""Runs in the legacy environment: upstream's tracer, and Caffe2 itself.

Caffe2 left PyTorch after 1.9, so this file is for Python 3.8 and torch 1.9.1 and imports nothing of
the project. It takes the path of a JSON file of steps, and does them in order:

    {"do": "trace", "config": YAML, "weights": PTH, "image": NPY, "heatmap_max": bool, "to": FOLDER}
    {"do": "net", "files": FOLDER, "inputs": NPZ, "to": NPZ}

``trace`` writes model.pb and model_init.pb as upstream's ``Caffe2Tracer`` does; the image is
(H, W, 3) in the config's channel order. ``net`` runs Caffe2 on each ``NAME/data`` and
``NAME/im_info`` of the inputs and keeps ``NAME/OUTPUT``, the raw outputs; none where Caffe2 stops.

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
    torch.ops.detectron2 = types.SimpleNamespace(nms_rotated=None)  # type: ignore[attr-defined]


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
        try:
            workspace.RunNet(predict.name)
        except RuntimeError as error:  # Caffe2 checks what it is given; the others go on
            print(name, str(error)[:300], file=sys.stderr)
            continue
        for output in predict.external_output:
            answers[name + "/" + output] = workspace.FetchBlob(output)
    np.savez_compressed(step["to"], **answers)


STEPS = {"trace": trace, "net": run_net}

if __name__ == "__main__":
    for each in json.loads(Path(sys.argv[1]).read_text()):
        STEPS[each["do"]](each)
