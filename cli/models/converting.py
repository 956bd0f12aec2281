"""``d2serve export --from-caffe2``: archives of Caffe2's files, made without detectron2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from typer import Context

from d2serve.cli.models.export_tables import print_result, print_scores
from d2serve.cli.running import fail, needs_detectron2, run

if TYPE_CHECKING:
    from d2serve.export.from_caffe2 import Caffe2Request

_OF_PROGRAMS = (
    "export_method",
    "runtime",
    "precision",
    "frozen",
    "max_ap_drop",
    "calibration_images",
)
_OF_DATA = ("coco_json", "image_root")
_OF_CONFIGS = ("overrides", "imports", "trust_weights", "weights_key", "run_eval")


def convert(
    context: Context,
    request: Caffe2Request,
    format: str,
    run_eval: bool,
    dataset: tuple[Path, Path] | None,
) -> None:
    """Make an archive of the files in a folder; end the command with an error where that fails.

    Args:
        context: of the command, which knows what the user has given.
        request: made of it.
        format: of the command.
        run_eval: whether to measure the AP as well.
        dataset: COCO annotations and the folder of their images to measure it on; None takes the
            config's DATASETS.TEST.
    """
    with needs_detectron2():
        from d2serve.export import from_caffe2

        if request.source is not None:
            from d2serve.export.proof import checking

    right_format = format == from_caffe2.FORMAT
    _require_fitting(context, request.source is not None, right_format, run_eval)
    result = run(lambda progress: from_caffe2.export_files(request, progress))
    print_result(result, request.class_names is not None)
    source = request.source
    if source is not None and run_eval:
        scores = run(
            lambda progress: checking.evaluate_archive(result.archive, source, dataset, progress)
        )
        print_scores(*scores)


def _require_fitting(
    context: Context, has_config: bool, right_format: bool, measured: bool
) -> None:
    misplaced = _given(context, _OF_PROGRAMS if measured else (*_OF_PROGRAMS, *_OF_DATA))
    if not right_format:
        misplaced += _given(context, ("format",))
    if misplaced:
        fail(
            f"{', '.join(misplaced)} {'does' if len(misplaced) == 1 else 'do'} not go with "
            "--from-caffe2: the files are served as they are. Leave it out, or export the config "
            "and weights themselves without --from-caffe2."
        )
    if not has_config and (alone := _given(context, _OF_CONFIGS)):
        fail(
            f"{', '.join(alone)} {'needs' if len(alone) == 1 else 'need'} --config-file, the "
            "config that the files were made of."
        )


def _given(context: Context, names: Sequence[str]) -> list[str]:
    """Options that stand in the command, as the user knows them."""
    known = {each.name: each for each in context.command.params}
    return [
        max(known[name].opts, key=len) if known[name].opts[0].startswith("-") else name.upper()
        for name in names
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"
    ]
