"""``d2serve export``, ``inspect``, ``verify`` and ``evaluate``.

The modules of the export room are imported inside the commands: they bring torch and detectron2,
which ``d2serve serve`` and ``predict`` do without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

import typer
from rich.markup import escape
from rich.table import Table

from d2serve.cli.progress import console, error_console, shown_progress

if TYPE_CHECKING:
    from d2serve.handlers.model_spec import ModelSpec

ConfigFile = Annotated[
    str,
    typer.Option(
        "--config-file", help="A detectron2 YAML config, a LazyConfig (it runs), or a zoo name."
    ),
]
MinSizeTest = Annotated[
    Optional[int],
    typer.Option(help="For a LazyConfig without a test mapper: the short edge in pixels."),
]
MaxSizeTest = Annotated[
    Optional[int], typer.Option(help="For such a LazyConfig: the bound of the long edge.")
]
ImageFormat = Annotated[Optional[str], typer.Option(help="For such a LazyConfig: BGR or RGB.")]
Imports = Annotated[
    Optional[list[str]],
    typer.Option("--import", help="Module that registers your backbones, heads or data sets."),
]
Overrides = Annotated[
    Optional[list[str]],
    typer.Argument(
        help="Config overrides: MODEL.WEIGHTS model_final.pth, or for a LazyConfig "
        "train.init_checkpoint=model_final.pth",
        metavar="OVERRIDES",
    ),
]
Archive = Annotated[Path, typer.Argument(help="A .mar made by d2serve export.", metavar="X.mar")]


def export(
    config_file: ConfigFile,
    export_method: Annotated[
        str, typer.Option("--export-method", help="tracing, or scripting for a dynamic batch.")
    ] = "tracing",
    overrides: Overrides = None,
    format: Annotated[str, typer.Option(help="torchscript or onnx.")] = "torchscript",
    runtime: Annotated[
        Optional[str],
        typer.Option(help="onnxruntime or openvino, for --format onnx; default: onnxruntime."),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, or bf16 or int8 for OpenVINO, at a measured price in AP.")
    ] = "fp32",
    calibration_images: Annotated[
        Optional[Path],
        typer.Option(help="Folder of 100 images or more for int8; default: DATASETS.TRAIN."),
    ] = None,
    coco_json: Annotated[
        Optional[Path],
        typer.Option(help="Annotations to compare bf16 or int8 on; default: DATASETS.TEST."),
    ] = None,
    image_root: Annotated[
        Optional[Path], typer.Option(help="Folder of the images of --coco-json.")
    ] = None,
    max_ap_drop: Annotated[
        float, typer.Option(help="AP points that bf16 or int8 may cost, box, mask or keypoint.")
    ] = 0.5,
    name: Annotated[
        Optional[str], typer.Option(help="Name of the model; default: the config file's.")
    ] = None,
    version: Annotated[
        str, typer.Option(help="Version under which TorchServe serves it beside others.")
    ] = "1.0",
    sample_image: Annotated[
        Optional[Path], typer.Option(help="An image with objects the model knows.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The model store to write to.")] = Path(
        "model_store"
    ),
    class_names: Annotated[
        Optional[str],
        typer.Option(help="Names separated by commas; default: the data set's metadata."),
    ] = None,
    stuff_class_names: Annotated[
        Optional[str], typer.Option(help="Names of the labels of sem_seg, separated by commas.")
    ] = None,
    run_eval: Annotated[
        bool, typer.Option("--run-eval", help="COCO AP on DATASETS.TEST, of eager and of the .mar.")
    ] = False,
    imports: Imports = None,
    min_size_test: MinSizeTest = None,
    max_size_test: MaxSizeTest = None,
    image_format: ImageFormat = None,
) -> None:
    """Turn a detectron2 model into a verified archive for TorchServe."""
    with _needs_detectron2():
        from d2serve.export import checking, pipeline
        from d2serve.export.config import ConfigSource
        from d2serve.export.request import ExportRequest

    if (coco_json is None) != (image_root is None):
        _fail("--coco-json and --image-root go together: give both or neither.")
    source = ConfigSource(
        config_file, overrides or (), imports or (), min_size_test, max_size_test, image_format
    )
    request = ExportRequest(
        source=source,
        method=export_method,
        name=name or Path(config_file).stem,
        version=version,
        sample_image=sample_image,
        class_names=class_names.split(",") if class_names else None,
        stuff_class_names=stuff_class_names.split(",") if stuff_class_names else None,
        output=output,
        format=format,
        runtime=runtime,
        precision=precision,
        calibration_images=calibration_images,
        dataset=None if coco_json is None or image_root is None else (coco_json, image_root),
        max_ap_drop=max_ap_drop,
    )
    result = _run(lambda progress: pipeline.export(request, progress))
    _print_verification(result.spec.verification)
    _print_accuracy(result.spec)
    console.print(f"[green]Wrote[/] {escape(str(result.archive))}")
    if request.class_names is None and result.spec.class_names is None:
        console.print("No class names are known: give --class-names to have them in the answers.")
    if run_eval:
        scores = _run(
            lambda progress: checking.evaluate_archive(result.archive, source, None, progress)
        )
        _print_scores(*scores)


def inspect(archive: Archive) -> None:
    """Print what a .mar holds and how it was verified."""
    from d2serve.handlers.errors import LoadError

    with _needs_detectron2():
        from d2serve.export.archive import opened
        from d2serve.export.errors import ExportError
    from d2serve.handlers.model_spec import read_spec

    try:
        with opened(archive) as model_dir:
            spec = read_spec(model_dir)
    except (ExportError, LoadError) as error:
        _fail(error)
    _print_spec(spec)
    _print_verification(spec.verification)
    _print_accuracy(spec)


def verify(
    archive: Archive,
    config_file: ConfigFile,
    overrides: Overrides = None,
    images: Annotated[
        Optional[Path], typer.Option(help="Folder of your own images; default: the built-in ones.")
    ] = None,
    imports: Imports = None,
    min_size_test: MinSizeTest = None,
    max_size_test: MaxSizeTest = None,
    image_format: ImageFormat = None,
) -> None:
    """Compare a .mar with eager detectron2 again, on your own images."""
    with _needs_detectron2():
        from d2serve.export import checking
        from d2serve.export.config import ConfigSource

    source = ConfigSource(
        config_file, overrides or (), imports or (), min_size_test, max_size_test, image_format
    )
    record = _run(lambda progress: checking.verify_archive(archive, source, images, progress))
    _print_verification(record.to_json())


def evaluate(
    archive: Archive,
    config_file: ConfigFile,
    coco_json: Annotated[Path, typer.Option(help="COCO annotation file.")],
    image_root: Annotated[Path, typer.Option(help="Folder of its images.")],
    overrides: Overrides = None,
    imports: Imports = None,
    min_size_test: MinSizeTest = None,
    max_size_test: MaxSizeTest = None,
    image_format: ImageFormat = None,
) -> None:
    """COCO AP by detectron2's own evaluator, of eager detectron2 and of a .mar."""
    with _needs_detectron2():
        from d2serve.export import checking
        from d2serve.export.config import ConfigSource

    source = ConfigSource(
        config_file, overrides or (), imports or (), min_size_test, max_size_test, image_format
    )
    scores = _run(
        lambda progress: checking.evaluate_archive(
            archive, source, (coco_json, image_root), progress
        )
    )
    _print_scores(*scores)


@contextmanager
def _needs_detectron2() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        _fail(
            f"This command needs the export extra and your own detectron2 ({error}). "
            "Install them: pip install 'd2serve[export]', and detectron2 as its INSTALL.md says."
        )


def _run(work: Callable[[Any], Any]) -> Any:
    from d2serve.export.errors import ExportError
    from d2serve.export.request import Progress

    try:
        with shown_progress() as (begin, advance):
            return work(Progress(begin, advance))
    except ExportError as error:
        _fail(error)


def _fail(error: object) -> NoReturn:
    error_console.print(f"[red]Error:[/] {escape(str(error))}", soft_wrap=True)
    raise typer.Exit(1)


def _print_spec(spec: ModelSpec) -> None:
    table = Table(title=f"{spec.name}: {spec.family}", show_header=False, title_justify="left")
    resize = f"short edge {spec.min_size_test}, long edge at most {spec.max_size_test}"
    rows = {
        "method": f"{spec.method}, {'any batch' if spec.dynamic_batch else 'one image'} a call",
        "runtime": f"{spec.runtime}, {spec.precision}",
        "program": "\n".join(f"{file}, sha256 {value}" for file, value in spec.sha256.items()),
        "image": f"{spec.image_format}, {resize}, padded to a multiple of {spec.size_divisibility}",
        "outputs": ", ".join(spec.outputs),
        "classes": "not named" if spec.class_names is None else ", ".join(spec.class_names),
        "thresholds": f"score {spec.score_thresh}, NMS {spec.nms_thresh}, "
        f"mask {spec.mask_threshold}, at most {spec.detections_per_image} instances",
        "made with": ", ".join(f"{tool} {number}" for tool, number in spec.versions.items()),
        "schema": str(spec.schema_version),
    }
    for key, value in rows.items():
        table.add_row(key, escape(value))
    console.print(table)


def _print_verification(record: Any) -> None:
    table = Table(title=f"Verified against {record['reference']}", title_justify="left")
    longest = max(len(row["image"]) for row in record["differences"])
    table.add_column("image", min_width=min(longest, 40), overflow="fold")
    for column in ("size", "instances", "boxes px", "scores", "masks differing", "keypoints px"):
        table.add_column(column, justify="right")
    for row in record["differences"]:
        table.add_row(
            escape(row["image"]),
            f"{row['height']}x{row['width']}",
            str(row["detections"]),
            f"{row['box_px']:.2g}",
            f"{row['score']:.2g}",
            _masks_differing(row),
            f"{row['keypoint_px']:.2g}",
        )
    console.print(table)
    for count in record["not_reached"]:
        console.print(f"No image was found on which this model has exactly {count} instances.")


def _masks_differing(row: dict[str, Any]) -> str:
    count = str(row["masks_differing"])
    return count if row["mask_iou"] == 1 else f"{count}, IoU {row['mask_iou']:.5f}"


def _print_accuracy(spec: ModelSpec) -> None:
    if not spec.accuracy:
        return
    accuracy = spec.accuracy
    console.print(
        f"The record above is of the fp32 program. {spec.precision} ({accuracy['how']}) was judged "
        f"by its AP on {accuracy['images']} images of {accuracy['dataset']}; "
        f"{accuracy['max_ap_drop']:g} points were allowed:",
        highlight=False,
    )
    _print_scores(accuracy["fp32"], accuracy[spec.precision], ("fp32", spec.precision))


def _print_scores(
    first: dict[str, dict[str, float]],
    second: dict[str, dict[str, float]],
    sides: tuple[str, str] = ("eager detectron2", "the .mar"),
) -> None:
    table = Table(title="COCO AP by detectron2's COCOEvaluator", title_justify="left")
    for column in ("task", "metric", *sides, "difference"):
        table.add_column(column, justify="left" if column in ("task", "metric") else "right")
    for task, metrics in first.items():
        for metric, value in metrics.items():
            got = second[task][metric]
            table.add_row(task, metric, f"{value:.3f}", f"{got:.3f}", f"{got - value:+.3f}")
    console.print(table)
