"""``d2serve export``: archives of models, and of Caffe2's files.

The modules of the export room are imported inside the command, since they bring torch and
detectron2: so `--help` does without, and what is missing is named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from d2serve.cli.models.converting import convert
from d2serve.cli.models.export_tables import print_result, print_scores
from d2serve.cli.options import (
    CONFIG_FILE_HELP,
    DEFAULT_STORE,
    ImageFormat,
    Imports,
    MaxSizeTest,
    MinSizeTest,
    OptionalConfigFile,
    Overrides,
    TrustWeights,
    WeightsKey,
)
from d2serve.cli.running import fail, needs_detectron2, or_fail, run
from d2serve.cli.runtime_help import (
    DYNAMIC_BATCH_HELP,
    FORMAT_HELP,
    FROZEN_HELP,
    PRECISION_HELP,
    RUNTIME_HELP,
)
from d2serve.export.naming import DEFAULT_VERSION, name_from
from d2serve.handlers.spec.runtimes import FP32, TORCHSCRIPT
from d2serve.handlers.spec.sixteen_bit import OPENCV


def export(
    context: typer.Context,
    config_file: OptionalConfigFile = None,
    export_method: Annotated[
        str,
        typer.Option(
            "--export-method",
            help="tracing, for one image a call; scripting, for any batch; or torch_export, for "
            "ONNX without TorchScript.",
        ),
    ] = "tracing",
    overrides: Overrides = None,
    format: Annotated[str, typer.Option(help=FORMAT_HELP)] = TORCHSCRIPT,
    runtime: Annotated[Optional[str], typer.Option(help=RUNTIME_HELP)] = None,
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help=DYNAMIC_BATCH_HELP)
    ] = False,
    frozen: Annotated[bool, typer.Option("--frozen", help=FROZEN_HELP)] = False,
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = FP32,
    calibration_images: Annotated[
        Optional[Path],
        typer.Option(
            help="Folder of 100 images or more, for int8. Default: those of DATASETS.TRAIN."
        ),
    ] = None,
    coco_json: Annotated[
        Optional[Path],
        typer.Option(
            help="COCO annotations to measure bf16, int8 or --run-eval on. "
            "Default: those of DATASETS.TEST."
        ),
    ] = None,
    image_root: Annotated[
        Optional[Path], typer.Option(help="Folder of the images of --coco-json.")
    ] = None,
    max_ap_drop: Annotated[
        float, typer.Option(help="Points of box, mask and keypoint AP that bf16 or int8 may lose.")
    ] = 0.5,
    name: Annotated[
        Optional[str], typer.Option(help="Name of the model. Default: that of the config file.")
    ] = None,
    version: Annotated[
        str,
        typer.Option(
            help="Version of the model. 1.0 is written to NAME.mar, any "
            "other to NAME-VERSION.mar beside it."
        ),
    ] = DEFAULT_VERSION,
    sample_image: Annotated[
        Optional[Path],
        typer.Option(help="An image with objects that the model knows. Default: a drawn scene."),
    ] = None,
    output: Annotated[Path, typer.Option(help="The model store to write to.")] = DEFAULT_STORE,
    class_names: Annotated[
        Optional[str],
        typer.Option(
            help="Names of the classes, separated by commas; a name with a comma in it in double "
            "quotes. Default: those of the data set's metadata."
        ),
    ] = None,
    stuff_class_names: Annotated[
        Optional[str],
        typer.Option(
            help="Names of the labels of sem_seg, separated by commas. "
            "Default: those of the data set's metadata."
        ),
    ] = None,
    sixteen_bit: Annotated[
        str,
        typer.Option(
            help="How image files of 16 bits are brought to 8: as by opencv (cv2.imread), or as by "
            "read_image, detectron2's own, for a model that was trained on such files."
        ),
    ] = OPENCV,
    run_eval: Annotated[
        bool,
        typer.Option(
            "--run-eval",
            help="Measure the COCO AP of detectron2 and of the archive as well, on --coco-json or "
            "DATASETS.TEST.",
        ),
    ] = False,
    imports: Imports = None,
    min_size_test: MinSizeTest = None,
    max_size_test: MaxSizeTest = None,
    image_format: ImageFormat = None,
    trust_weights: TrustWeights = False,
    weights_key: WeightsKey = None,
    from_caffe2: Annotated[
        Optional[Path],
        typer.Option(
            "--from-caffe2",
            help="Folder with the model.pb and model_init.pb that detectron2's Caffe2Tracer wrote, "
            "to serve as they are, without detectron2. With --config-file or with "
            "--min-size-test, --max-size-test and --image-format.",
            metavar="DIR",
        ),
    ] = None,
) -> None:
    """Turn a detectron2 model into a verified archive for TorchServe."""
    if config_file is None and from_caffe2 is None:
        fail("--config-file is missing. " + CONFIG_FILE_HELP)
    if (coco_json is None) != (image_root is None):
        fail("--coco-json and --image-root go together: give both or neither.")
    dataset = None if coco_json is None or image_root is None else (coco_json, image_root)
    with needs_detectron2():
        from d2serve.export.from_caffe2 import Caffe2Request
        from d2serve.export.reading.config import ConfigSource

    names = _names("--class-names", class_names)
    stuff_names = _names("--stuff-class-names", stuff_class_names)
    source = None
    if config_file is not None:
        source = ConfigSource(
            config_file,
            overrides or (),
            imports or (),
            min_size_test,
            max_size_test,
            image_format,
            trust_weights,
            weights_key,
        )
    if name is None:
        named = config_file or str(from_caffe2.resolve() if from_caffe2 else "")
        name = or_fail(lambda: name_from(named))
    if from_caffe2 is not None:
        caffe2_request = Caffe2Request(
            from_caffe2,
            name,
            version,
            source,
            min_size_test,
            max_size_test,
            image_format,
            names,
            stuff_names,
            sample_image,
            sixteen_bit,
            output,
        )
        convert(context, caffe2_request, format, run_eval, dataset)
        return
    with needs_detectron2():
        from d2serve.export import pipeline
        from d2serve.export.proof import checking
        from d2serve.export.request import ExportRequest

    assert source is not None  # one of the two was given
    request = ExportRequest(
        source=source,
        method=export_method,
        name=name,
        version=version,
        sample_image=sample_image,
        class_names=names,
        stuff_class_names=stuff_names,
        sixteen_bit=sixteen_bit,
        output=output,
        format=format,
        runtime=runtime,
        dynamic_batch=dynamic_batch,
        frozen=frozen,
        precision=precision,
        calibration_images=calibration_images,
        dataset=dataset,
        max_ap_drop=max_ap_drop,
    )
    result = run(lambda progress: pipeline.export(request, progress))
    print_result(result, names is not None)
    if run_eval:
        scores = run(
            lambda progress: checking.evaluate_archive(result.archive, source, dataset, progress)
        )
        print_scores(*scores)


def _names(option: str, text: Optional[str]) -> Optional[list[str]]:
    from d2serve.export.reading.names.given import split_names

    return None if text is None else or_fail(lambda: split_names(option, text))
