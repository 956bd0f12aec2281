"""What bf16 and int8 cost in AP, measured on trained models, since only those have an AP.

``python -m benchmarks.precision`` (``make precision``) exports trained example models to OpenVINO
in bf16 and int8 and writes the AP that each export measured, beside fp32's, into
``benchmarks/results/precision.md``.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from benchmarks.shared.errors import BenchError
from benchmarks.shared.machine import this_machine
from benchmarks.shared.table import Table
from d2serve.cli.progress import console, error_console, shown_progress
from d2serve.export.errors import ExportError
from d2serve.export.pipeline import export
from d2serve.export.reading.config import ConfigSource
from d2serve.export.request import ExportRequest, Progress
from d2serve.handlers.cores import available_cores
from d2serve.handlers.spec.model_spec import ModelSpec
from examples.shapes.generate import generate_split

_ROOT = Path(__file__).resolve().parents[2]
# One of each kind of head and backbone, judged by COCO's AP.
_MODELS = (
    *("faster_rcnn_c4", "faster_rcnn_fpn", "keypoint_rcnn_fpn"),
    *("mask_rcnn_dc5", "mask_rcnn_fpn", "retinanet"),
)
_CONFIGS = [_ROOT / "examples" / "shapes" / "models" / f"{model}.yaml" for model in _MODELS]
_RESULT = Path(__file__).resolve().parents[1] / "results" / "precision.md"
_HELD_OUT, _CALIBRATION = 200, 150
# Largest loss that is aimed at, in AP points, of box, mask or keypoint AP.
_TARGETS = {"bf16": 0.1, "int8": 0.5}
# Far above the targets: a loss is to be told here, not refused.
_ALLOWED = 5.0


def main() -> int:
    """Export, print the table and write it."""
    try:
        with shown_progress() as (begin, advance):
            specs = measure(begin=Progress(begin, advance))
    except BenchError as error:
        error_console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        return 1
    table = _table(specs)
    console.print(table.for_terminal())
    machine = this_machine()
    head = f"# AP of lower precisions\n\n{machine.cpu}, OpenVINO {specs[0].versions['openvino']}\n"
    _RESULT.write_text(f"{head}\n{table.as_markdown()}", encoding="utf-8")
    return 0


def measure(begin: Progress) -> list[ModelSpec]:
    """Export the models in every lower precision.

    Raises:
        BenchError: an export was refused.
    """
    with tempfile.TemporaryDirectory(prefix="d2serve-precision-") as folder:
        begin.begin("Drawing images", 0)
        for split, count in (("heldout", _HELD_OUT), ("train", _CALIBRATION)):
            generate_split(Path(folder) / split, split, count)
        orders = [(config, how, Path(folder)) for how in ("int8", "bf16") for config in _CONFIGS]
        begin.begin("Exporting", len(orders))
        spawn = multiprocessing.get_context("spawn")
        specs = []
        with ProcessPoolExecutor(available_cores(), spawn, torch.set_num_threads, (1,)) as pool:
            for spec in pool.map(_export, orders):
                specs.append(spec)
                begin.advance()
    return specs


def _export(order: tuple[Path, str, Path]) -> ModelSpec:
    config, precision, folder = order
    request = ExportRequest(
        source=ConfigSource(
            str(config),
            overrides=("MODEL.WEIGHTS", str(config.with_suffix(".pth"))),
            imports=("examples.shapes.dataset",),
        ),
        method="tracing",
        name=f"{config.stem}_{precision}",
        output=folder / "store",
        format="onnx",
        runtime="openvino",
        precision=precision,
        calibration_images=folder / "train" / "images" if precision == "int8" else None,
        dataset=(folder / "heldout" / "annotations.json", folder / "heldout" / "images"),
        max_ap_drop=_ALLOWED,
    )
    try:
        return export(request, Progress(lambda _step, _parts: None, lambda: None)).spec
    except ExportError as error:
        raise BenchError(f"{request.name} was not exported: {error}") from error


def _table(specs: list[ModelSpec]) -> Table:
    rows = []
    for spec in sorted(specs, key=lambda each: each.name):
        model = spec.name.removesuffix(f"_{spec.precision}")
        fp32, lower = spec.accuracy["fp32"], spec.accuracy[spec.precision]
        changes = {task: lower[task]["AP"] - fp32[task]["AP"] for task in fp32}
        met = min(changes.values()) >= -_TARGETS[spec.precision]
        rows.append(
            (
                model,
                spec.precision,
                *(
                    f"{fp32[task]['AP']:.2f} -> {lower[task]['AP']:.2f} ({changes[task]:+.2f})"
                    if task in fp32
                    else ""
                    for task in ("bbox", "segm", "keypoints")
                ),
                spec.accuracy["how"],
                "met" if met else "missed",
            )
        )
    targets = ", ".join(f"{how} {loss:g}" for how, loss in _TARGETS.items())
    return Table(
        title="AP on held-out images, fp32 -> lower precision",
        note=f"COCOEvaluator on {_HELD_OUT} generated images that were neither trained nor "
        f"calibrated on. Targets: AP points lost, at most {targets}.",
        header=("model", "precision", "box AP", "mask AP", "keypoint AP", "kept higher", "target"),
        rows=tuple(rows),
    )


if __name__ == "__main__":
    sys.exit(main())
