"""Trains the small models that the project's tests, demo and benchmarks export and serve.

`python -m examples.shapes.train --model NAME` reproduces one of them on a CPU in minutes: it
generates the images if they are missing, trains with detectron2's model, loader and solver, saves
the weights, loads that file again and evaluates it on the held-out images.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, get_cfg
from detectron2.data import build_detection_train_loader
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage
from rich.console import Console

from examples.shapes.cpu_speed import prepare_process
from examples.shapes.dataset import register_generated
from examples.shapes.evaluation import (
    Result,
    evaluate_weights,
    record_result,
    results_table,
)
from examples.shapes.generate import generate_split
from examples.shapes.initial_weights import transfer_weights
from examples.shapes.schema import ANNOTATIONS_FILE, DEFAULT_COUNTS, DEFAULT_DATA_ROOT, EXAMPLE_ROOT

MODELS_FOLDER = EXAMPLE_ROOT / "models"
RESULTS_FILE = MODELS_FOLDER / "results.json"
# The first is trained from scratch, the others start from it.
FIRST_MODEL = "mask_rcnn_fpn"
MODEL_NAMES = (
    FIRST_MODEL,
    "faster_rcnn_fpn",
    "keypoint_rcnn_fpn",
    "retinanet",
    "faster_rcnn_c4",
    "mask_rcnn_dc5",
)
_REPORT_EVERY = 25

console = Console(stderr=True)


def load_config(name: str) -> CfgNode:
    """The model's YAML on top of detectron2's defaults, on the CPU, with weights found from here.

    ValueError lists the known models if ``name`` is not one of them.
    """
    if name not in MODEL_NAMES:
        raise ValueError(f"unknown model {name!r}; the models are: {', '.join(MODEL_NAMES)}")
    cfg = get_cfg()
    cfg.merge_from_file(str(MODELS_FOLDER / f"{name}.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    # The YAML's own path starts at the repository root; this one works from any folder.
    cfg.MODEL.WEIGHTS = str(MODELS_FOLDER / f"{name}.pth")
    return cfg


def train_model(name: str) -> Result:
    """Train, save, reload and evaluate one model; its row is also kept in results.json."""
    cfg = load_config(name)
    for split in DEFAULT_COUNTS:
        _ensure_generated(split)
    prepare_process()
    seed_all_rng(cfg.SEED)
    model = build_model(cfg)
    if name != FIRST_MODEL:
        _start_from_first_model(cfg, model)
    started = time.perf_counter()
    _optimise(cfg, model)
    minutes = (time.perf_counter() - started) / 60.0
    weights = Path(cfg.MODEL.WEIGHTS)
    save_weights(model, weights)
    metrics, parameters = evaluate_weights(cfg, cfg.DATASETS.TEST[0])
    result = Result(
        model=name,
        parameters=parameters,
        megabytes=round(weights.stat().st_size / 1e6, 2),
        training_minutes=round(minutes, 1),
        iterations=cfg.SOLVER.MAX_ITER,
        metrics=metrics,
    )
    console.print(results_table(record_result(RESULTS_FILE, result)))
    return result


def save_weights(model: torch.nn.Module, path: Path) -> None:
    """Write detectron2's checkpoint format with convolutions and matrices in fp16.

    Biases and normalisation statistics stay fp32: they are few, and a variance may not fit fp16.
    The file appears under its name only when complete.
    """
    state = {
        key: tensor.half() if tensor.is_floating_point() and tensor.dim() > 1 else tensor
        for key, tensor in model.state_dict().items()
    }
    unfinished = path.with_name(path.name + ".unfinished")
    torch.save({"model": state}, unfinished)
    unfinished.replace(path)


def _ensure_generated(split: str) -> None:
    folder = DEFAULT_DATA_ROOT / split
    if not (folder / ANNOTATIONS_FILE).is_file():
        generate_split(folder, split, DEFAULT_COUNTS[split])
    register_generated(split, folder)


def _start_from_first_model(cfg: CfgNode, model: torch.nn.Module) -> None:
    first = load_config(FIRST_MODEL)
    if not Path(first.MODEL.WEIGHTS).is_file():
        raise FileNotFoundError(
            f"{first.MODEL.WEIGHTS} does not exist, and this model starts from it; "
            f"run `python -m examples.shapes.train --model {FIRST_MODEL}` first"
        )
    source = build_model(first)
    DetectionCheckpointer(source).load(first.MODEL.WEIGHTS)
    swap_colours = cfg.INPUT.FORMAT != first.INPUT.FORMAT
    copied = transfer_weights(source.state_dict(), model, swap_colours=swap_colours)
    console.print(f"started from {FIRST_MODEL}: {copied} tensors copied")


def _optimise(cfg: CfgNode, model: torch.nn.Module) -> None:
    optimizer = _build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    loader = iter(build_detection_train_loader(cfg))
    model.train()
    with EventStorage() as storage:
        for iteration in range(1, cfg.SOLVER.MAX_ITER + 1):
            batch = next(loader)
            # Up to twice as fast as fp32 on a CPU with AMX; the evaluation is in fp32.
            with torch.autocast("cpu", dtype=torch.bfloat16):
                losses = model(batch)
                loss = torch.stack([value.float() for value in losses.values()]).sum()
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss became {loss.item()} at {iteration}: {losses}")
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            scheduler.step()
            storage.put_scalars(loss=loss.item(), **{k: v.item() for k, v in losses.items()})
            storage.step()
            if iteration % _REPORT_EVERY == 0:
                medians = {k: h.median(_REPORT_EVERY) for k, h in storage.histories().items()}
                parts = " ".join(f"{k} {v:.3f}" for k, v in medians.items() if "loss" in k)
                console.print(f"{time.strftime('%H:%M:%S')} {iteration} {parts}")


def _build_optimizer(cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
    """AdamW where detectron2 has SGD: from scratch it gets much further in so few steps."""
    parameters = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
    )
    optimizer = torch.optim.AdamW(
        parameters, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY
    )
    clipped: torch.optim.Optimizer = maybe_add_gradient_clipping(cfg, optimizer)
    return clipped


def main(
    model: Annotated[str | None, typer.Option(help=", ".join(MODEL_NAMES))] = None,
    every: Annotated[bool, typer.Option("--all", help="all models, one after another")] = False,
) -> None:
    """Train one of the shapes models, or all of them."""
    if every == (model is not None):
        raise typer.BadParameter("give either --model NAME or --all")
    try:
        for name in MODEL_NAMES if model is None else (model,):
            train_model(name)
    except (ValueError, FileNotFoundError) as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    typer.run(main)
