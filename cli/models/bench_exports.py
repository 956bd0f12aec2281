"""The runtimes and precisions that `d2serve bench` has no archive of: made, or how to make them.

The modules of the export room are imported where they are used, as in exporting.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from d2serve.cli.progress import note, shown_progress
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.runtimes import (
    FP32,
    INT8,
    ONNX,
    RUNTIMES,
    TORCHSCRIPT,
    TRACING,
    runtimes_of,
)

if TYPE_CHECKING:
    from d2serve.export.reading.config import ConfigSource

Way = tuple[str, str]
"""A runtime and a precision."""


def missing_ways(specs: Sequence[ModelSpec]) -> list[Way]:
    """The runtimes and precisions, of those that are made to be fast, of which there is no archive.

    Caffe2 and TensorFlow are for engines that want their files, and this measures CPUs.
    """
    there = {(spec.runtime, spec.precision) for spec in specs}
    names = (*runtimes_of(TORCHSCRIPT), *runtimes_of(ONNX))
    on_a_cpu = [name for name in names if not RUNTIMES[name].needs_gpu]
    ways = [(name, precision) for name in on_a_cpu for precision in RUNTIMES[name].precisions]
    return [way for way in ways if way not in there]


def how_to(ways: Sequence[Way]) -> str:
    """How a user makes what is missing."""
    listed = ", ".join(" ".join(way) for way in ways)
    return (
        f"Not measured, for want of an archive: {listed}. With --config-file FILE and the "
        "overrides of the export, those of fp32 are exported first, and with --coco-json and "
        "--image-root bf16 and int8, too. Or make them with `d2serve export` and name them here."
    )


def exported(
    ways: Sequence[Way],
    source: ConfigSource,
    like: ModelSpec,
    dataset: Optional[tuple[Path, Path]],
    output: Path,
) -> list[Path]:
    """Export a model for more runtimes and precisions; what cannot be is said and left out.

    Args:
        ways: to export it for.
        source: its config.
        like: the spec of an archive of it, whose names and method are taken.
        dataset: COCO annotations and their images, on which lower precisions are judged; without
            it these are left out.
        output: folder for the archives.
    """
    from d2serve.export import pipeline
    from d2serve.export.errors import ExportError
    from d2serve.export.request import ExportRequest, Progress

    output.mkdir(parents=True, exist_ok=True)
    archives = []
    for runtime, precision in ways:
        settings: dict[str, Any] = {}
        if precision != FP32:
            if dataset is None:
                note(
                    f"{runtime} {precision} is left out: an export in it is judged by its AP. Give "
                    "annotated images, a few hundred are enough: --coco-json and --image-root."
                )
                continue
            settings["calibration_images"] = dataset[1] if precision == INT8 else None
        request = ExportRequest(
            source=source,
            method=_method_like(like, runtime),
            name=f"{like.name}_{runtime}_{precision}",
            class_names=like.class_names,
            stuff_class_names=like.stuff_class_names,
            sixteen_bit=like.sixteen_bit,
            output=output,
            format=RUNTIMES[runtime].format,
            runtime=runtime,
            precision=precision,
            dataset=dataset,
            **settings,
        )
        try:
            with shown_progress() as (begin, advance):

                def begin_of(step: str, parts: int, way: str = f"{runtime} {precision}") -> None:
                    begin(f"{way}: {step}", parts)

                archives.append(pipeline.export(request, Progress(begin_of, advance, note)).archive)
        except ExportError as error:
            note(f"{runtime} {precision} is left out: {error}")
    return archives


def _method_like(like: ModelSpec, runtime: str) -> str:
    """An archive's own method where TorchScript may be made by it."""
    facts = RUNTIMES[runtime]
    return like.method if runtime == TORCHSCRIPT and like.method in facts.methods else TRACING
