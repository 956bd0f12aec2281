"""Makes the files of tests/data/caffe2 again: upstream's, of small models, and Caffe2's answers.

``python -m benchmarks.caffe2_evidence.test_data PYTHON DETECTRON2`` takes the Python of the legacy
environment (``make caffe2-evidence`` makes one) and the folder of detectron2 0.4.1's sources, the
last but one whose tracer knew PanopticFPN. With ``--train`` the models are trained first, which
takes 15 minutes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, get_cfg
from detectron2.data import build_detection_train_loader
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, get_default_optimizer_params
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage

from benchmarks.caffe2_evidence.environment import run_steps
from examples.shapes.cpu_speed import prepare_process
from examples.shapes.dataset import belongs_to, register_generated
from examples.shapes.generate import generate_split
from examples.shapes.initial_weights import transfer_weights
from examples.shapes.schema import ANNOTATIONS_FILE, DEFAULT_COUNTS, DEFAULT_DATA_ROOT, SPLITS
from examples.shapes.train import save_weights
from tests import upstream_files
from tests.upstream_files import FOLDER, MODEL_OF, MODELS

_FIRST = "mask_rcnn_fpn"
_PANOPTIC = "panoptic_fpn"


def main(
    python: Annotated[Path, typer.Argument(help="Python of the legacy environment.")],
    detectron2: Annotated[Path, typer.Argument(help="Folder of detectron2 0.4.1's sources.")],
    train: Annotated[bool, typer.Option("--train", help="Train the models first.")] = False,
) -> None:
    """Make tests/data/caffe2 again."""
    if train:
        for name in dict.fromkeys(MODEL_OF.values()):
            _train(name)
    for name in MODEL_OF:
        _make(name, python, detectron2 if name == _PANOPTIC else None)


def _make(name: str, python: Path, detectron2: Path | None) -> None:
    model = MODEL_OF[name]
    shutil.rmtree(FOLDER / name, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        np.save(scratch / "scene.npy", upstream_files.scene_of(name))
        given = {
            f"{case}/{what}": value
            for case, inputs in upstream_files.inputs_of(name).items()
            for what, value in zip(("data", "im_info"), inputs)
        }
        np.savez(scratch / "inputs.npz", **given)  # type: ignore[arg-type]
        steps: list[dict[str, object]] = [
            {
                "do": "trace",
                "config": str(MODELS / f"{model}.yaml"),
                "weights": str(MODELS / f"{model}.pth"),
                "image": str(scratch / "scene.npy"),
                "heatmap_max": name.endswith("_max"),
                "to": str(FOLDER / name),
            },
            {
                "do": "net",
                "files": str(FOLDER / name),
                "inputs": str(scratch / "inputs.npz"),
                "to": str(scratch / "outputs.npz"),
            },
        ]
        there = {} if detectron2 is None else {"DETECTRON2": str(detectron2)}
        run_steps(python, steps, {**os.environ, **there})
        with np.load(scratch / "outputs.npz") as answers:
            upstream_files.record(name, dict(answers))
    (FOLDER / name / "model.pbtxt").unlink()


def _train(name: str) -> None:
    cfg = _cfg(name)
    for split in SPLITS:
        if belongs_to(cfg.DATASETS.TRAIN[0], split):
            folder = DEFAULT_DATA_ROOT / split
            if not (folder / ANNOTATIONS_FILE).is_file():
                generate_split(folder, split, DEFAULT_COUNTS[split])
            register_generated(split, folder)
    prepare_process()
    seed_all_rng(cfg.SEED)
    model = build_model(cfg)
    if name != _FIRST:
        first = build_model(_cfg(_FIRST))
        DetectionCheckpointer(first).load(str(MODELS / f"{_FIRST}.pth"))
        rgb = cfg.INPUT.FORMAT == "RGB"
        transfer_weights(first.state_dict(), model, swap_colours=rgb)
    parameters = get_default_optimizer_params(model, base_lr=cfg.SOLVER.BASE_LR)
    optimizer = torch.optim.AdamW(
        parameters, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY
    )
    scheduler = build_lr_scheduler(cfg, optimizer)
    batches = iter(build_detection_train_loader(cfg))
    model.train()
    with EventStorage() as storage:
        for _step in range(cfg.SOLVER.MAX_ITER):
            loss = torch.stack(list(model(next(batches)).values())).sum()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            scheduler.step()
            storage.step()
    save_weights(model, MODELS / f"{name}.pth")


def _cfg(name: str) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_file(str(MODELS / f"{name}.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    return cfg


if __name__ == "__main__":
    typer.run(main)
