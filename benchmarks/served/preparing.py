"""Makes all that is served, before anything is measured, from a seed, in a temporary folder.

Exports take most of that time and are measured by nobody, so as many run at once as there are
cores, each with one thread.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from detectron2.config import get_cfg
from PIL import Image

from benchmarks.served.archives import (
    Order,
    eager_archive,
    fill,
    torchvision_archive,
    with_settings,
)
from benchmarks.served.low_precision import lowered_archive
from benchmarks.served.model import SavedModel, model_input, save_random_model
from benchmarks.served.sides import EAGER, OPENVINO, SIDES, TORCHVISION
from benchmarks.served.small_model import SMALL_SOURCE
from benchmarks.served.torchvision_model import save_torchvision_model
from benchmarks.serving.plan import BenchPlan
from benchmarks.shared.errors import BenchError
from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.image_files import Pixels
from d2serve.export.request import ExportRequest
from d2serve.handlers.cores import available_cores
from d2serve.server.measuring.drawn_photo import photo


@dataclass(frozen=True)
class Prepared:
    """What is served."""

    saved: SavedModel
    store: Path
    """With SIDE.mar for each side that TorchServe serves."""
    small_store: Path
    """With SIDE.mar of the small trained model for the sides of the long run."""


def save_model(plan: BenchPlan, picture: Pixels, folder: Path) -> SavedModel:
    """Write the full-size model, and check what it gets.

    Raises:
        BenchError: the picture reaches the model in another size than planned.
    """
    saved = save_random_model(folder, plan.zoo_name, plan.overrides, picture, plan.seed)
    cfg = get_cfg()
    cfg.merge_from_file(str(saved.config))
    size = tuple(model_input(cfg, picture).shape[1:])
    if size != plan.input_size:
        raise BenchError(
            f"The model gets the picture as {size}, expected {plan.input_size} (height, width): "
            "change picture_size or input_size in plan.py."
        )
    return saved


def prepare(
    plan: BenchPlan, saved: SavedModel, picture: Pixels, folder: Path, advance: Callable[[], None]
) -> Prepared:
    """Make every archive.

    Args:
        plan: of the run.
        saved: the full-size model.
        picture: RGB; what will be sent.
        folder: where everything goes.
        advance: called after each export.

    Raises:
        BenchError: an archive could not be made.
    """
    store, small_store, scratch = folder / "store", folder / "small", folder / "archiver"
    for each in (store, small_store, scratch):
        each.mkdir()
    orders = list(_orders(plan, saved, picture, folder, store, small_store))
    workers = min(available_cores(), len(orders)) or 1
    # Not forked: torch's threads do not survive that.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, torch.set_num_threads, (1,)) as pool:
        try:
            for done in as_completed([pool.submit(fill, order) for order in orders]):
                done.result()
                advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for side in plan.sides:
        precision, settings = SIDES[side].precision, SIDES[side].settings
        if settings:
            with_settings(store / f"{SIDES[side].made_of}.mar", settings, store / f"{side}.mar")
            advance()
        elif precision != "fp32":
            images = (
                _calibration_image(plan, plan.seed + 1 + index)
                for index in range(plan.calibration_images)
            )
            lowered_archive(store / f"{OPENVINO}.mar", precision, images, store / f"{side}.mar")
            advance()
    if EAGER in plan.sides:
        eager_archive(saved, store, scratch)
    if TORCHVISION in plan.sides:
        cfg = get_cfg()
        cfg.merge_from_file(str(saved.config))
        edges = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
        place = folder / "torchvision"
        place.mkdir()
        files = save_torchvision_model(place, picture, edges, plan.detections, plan.seed)
        torchvision_archive(*files, store, scratch)
    return Prepared(saved, store, small_store)


def _calibration_image(plan: BenchPlan, seed: int) -> npt.NDArray[np.float32]:
    blue_first = photo(*plan.export_size, seed=seed)[:, :, ::-1]
    return np.ascontiguousarray(blue_first.transpose(2, 0, 1), dtype=np.float32)


def exports_of(plan: BenchPlan) -> int:
    """How many exports ``prepare`` makes."""
    return sum(SIDES[side].is_ours for side in plan.sides) + len(plan.long_run_sides)


def _orders(
    plan: BenchPlan,
    saved: SavedModel,
    picture: Pixels,
    folder: Path,
    store: Path,
    small_store: Path,
) -> Iterator[Order]:
    short, longest = plan.export_size
    sample = folder / "sample.png"
    Image.fromarray(picture).resize((longest, short)).save(sample)
    sizes = ["INPUT.MIN_SIZE_TEST", str(short), "INPUT.MAX_SIZE_TEST", str(longest)]
    for side in plan.sides:
        if SIDES[side].is_ours and SIDES[side].made_of is None:
            fields: dict[str, Any] = {**SIDES[side].export}
            request = ExportRequest(
                source=ConfigSource(
                    str(saved.config), ["MODEL.WEIGHTS", str(saved.weights), *sizes]
                ),
                name=side,
                sample_image=sample,
                output=store,
                **fields,
            )
            yield Order(request, saved.config)
    for side in plan.long_run_sides:
        fields = {**SIDES[side].export}
        request = ExportRequest(
            source=SMALL_SOURCE,
            name=side,
            output=small_store,
            **fields,
        )
        yield Order(request, None)
