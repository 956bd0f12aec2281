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
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage
from rich.console import Console

from examples.shapes.cpu_speed import prepare_process
from examples.shapes.dataset import belongs_to, register_generated
from examples.shapes.deformable import trainable_on_the_cpu
from examples.shapes.evaluation import (
    Result,
    evaluate_weights,
    record_result,
    results_table,
)
from examples.shapes.generate import generate_split
from examples.shapes.imitation import imitating
from examples.shapes.initial_weights import transfer_weights
from examples.shapes.recipes import FIRST_MODEL, MODEL_NAMES, MODELS_FOLDER, Recipe, recipe_of
from examples.shapes.schema import ANNOTATIONS_FILE, DEFAULT_COUNTS, DEFAULT_DATA_ROOT, SPLITS

RESULTS_FILE = MODELS_FOLDER / "results.json"
_REPORT_EVERY = 25

console = Console(stderr=True)


def train_model(name: str) -> Result:
    """Train, save, reload and evaluate one model; its row is also kept in results.json."""
    recipe = recipe_of(name)
    for split in SPLITS:
        if any(belongs_to(dataset, split) for dataset in recipe.datasets):
            _ensure_generated(split)
    prepare_process()
    seed_all_rng(recipe.seed)
    model = recipe.model()
    first = model if name == FIRST_MODEL else _start_from_first_model(recipe, model)
    started = time.perf_counter()
    _optimise(recipe, model, first)
    minutes = (time.perf_counter() - started) / 60.0
    save_weights(model, recipe.weights)
    metrics, parameters = evaluate_weights(recipe)
    result = Result(
        model=name,
        parameters=parameters,
        megabytes=round(recipe.weights.stat().st_size / 1e6, 2),
        training_minutes=round(minutes, 1),
        iterations=recipe.iterations,
        metrics=metrics,
    )
    console.print(results_table(record_result(RESULTS_FILE, result)))
    return result


def save_weights(model: torch.nn.Module, path: Path) -> None:
    """Write detectron2's checkpoint format with convolutions and matrices in fp16.

    Biases and normalisation statistics stay fp32: they are few, and a variance may not fit fp16.
    The file appears under its name only when complete.
    """
    # Not a new dict: this one also has the modules' versions, by which old weights are known.
    state = model.state_dict()
    for key, tensor in state.items():
        if tensor.is_floating_point() and tensor.dim() > 1:
            state[key] = tensor.half()
    unfinished = path.with_name(path.name + ".unfinished")
    torch.save({"model": state}, unfinished)
    unfinished.replace(path)


def _ensure_generated(split: str) -> None:
    folder = DEFAULT_DATA_ROOT / split
    if not (folder / ANNOTATIONS_FILE).is_file():
        generate_split(folder, split, DEFAULT_COUNTS[split])
    register_generated(split, folder)


def _start_from_first_model(recipe: Recipe, model: torch.nn.Module) -> torch.nn.Module:
    """Copy into ``model`` what fits of the first one, which is returned."""
    first = recipe_of(FIRST_MODEL)
    if not first.weights.is_file():
        raise FileNotFoundError(
            f"{first.weights} does not exist, and this model starts from it; "
            f"run `python -m examples.shapes.train --model {FIRST_MODEL}` first"
        )
    source = first.model()
    DetectionCheckpointer(source).load(str(first.weights))
    swap_colours = recipe.input_format != first.input_format
    copied = transfer_weights(source.state_dict(), model, swap_colours=swap_colours)
    console.print(f"started from {FIRST_MODEL}: {copied} tensors copied")
    return source


def _optimise(recipe: Recipe, model: torch.nn.Module, first: torch.nn.Module) -> None:
    optimizer = recipe.optimizer(model)
    scheduler = recipe.scheduler(optimizer)
    loader = iter(recipe.training_batches())
    model.train()
    with (
        trainable_on_the_cpu(),
        imitating(model, first, recipe.imitated_levels) as imitation,
        EventStorage() as storage,
    ):
        for iteration in range(1, recipe.iterations + 1):
            batch = next(loader)
            # Up to twice as fast as fp32 on a CPU with AMX; the evaluation is in fp32.
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.bf16):
                losses = model(batch) | imitation
                loss = torch.stack([value.float() for value in losses.values()]).sum()
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss became {loss.item()} at {iteration}: {losses}")
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            if recipe.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimizer.step()
            scheduler.step()
            storage.put_scalars(loss=loss.item(), **{k: v.item() for k, v in losses.items()})
            storage.step()
            if iteration % _REPORT_EVERY == 0:
                medians = {k: h.median(_REPORT_EVERY) for k, h in storage.histories().items()}
                parts = " ".join(f"{k} {v:.3f}" for k, v in medians.items() if "loss" in k)
                console.print(f"{time.strftime('%H:%M:%S')} {iteration} {parts}")


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
