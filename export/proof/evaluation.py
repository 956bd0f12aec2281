"""Scores of eager detectron2 and of an archive on a data set, by detectron2's own evaluators.

Users judge a model by its AP or mIoU. Instances and proposals are judged by COCOEvaluator; labels
by SemSegEvaluator, where the data set has them.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, SemSegEvaluator
from PIL import Image

from d2serve.export.errors import EvaluationError, one_line
from d2serve.export.proof.isolated_replay import replay
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.config import ModelConfig
from d2serve.export.reading.families import Family
from d2serve.export.reading.image_files import read_image_file
from d2serve.handlers.spec.model_spec import read_spec
from d2serve.handlers.spec.output_names import BOXES, KEYPOINTS, MASKS, SEM_SEG, XYWHA_ABS

Scores = dict[str, dict[str, float]]
"""By task (bbox, segm, keypoints, box_proposals, sem_seg) and metric (AP, mIoU, ...), in percent.
"""

_MAIN_METRIC = {"sem_seg": "mIoU", "box_proposals": "AR@1000"}


def main_metric(task: str) -> str:
    """The one number by which a task is judged."""
    return _MAIN_METRIC.get(task, "AP")


def register(coco_json: Path, image_root: Path) -> str:
    """Register a COCO-format data set and give its name.

    Raises:
        EvaluationError: the file is not there or is not COCO's format.
    """
    try:
        content = json.loads(coco_json.read_text())
        files = [image_root / image["file_name"] for image in content["images"]]
        content["annotations"], content["categories"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{coco_json} cannot be read as COCO annotations ({one_line(error)}). Expected a JSON "
            "file with 'images', 'annotations' and 'categories'."
        ) from error
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        raise EvaluationError(
            f"{len(missing)} of the {len(files)} images of {coco_json} are not in {image_root} "
            f"(first: {missing[0] if missing else 'none listed'}). Check --image-root."
        )
    name = f"d2serve_{coco_json.resolve()}"
    if name not in DatasetCatalog:
        register_coco_instances(name, {}, str(coco_json), str(image_root))
    return name


def evaluate(
    config: ModelConfig,
    family: Family,
    oracle: Oracle,
    model_dir: Path,
    dataset: str,
    gpu_id: int | None,
    begin: Callable[[str, int], None],
    advance: Callable[[], None],
) -> tuple[Scores, Scores]:
    """Scores of eager detectron2 and of an extracted archive on the same images.

    Args:
        config: the model's.
        family: what it is.
        oracle: eager detectron2.
        model_dir: the extracted archive.
        dataset: name of a registered data set.
        gpu_id: where the archive runs; None is the CPU.
        begin, advance: progress.

    Returns:
        Scores of eager detectron2, and of the archive.

    Raises:
        EvaluationError: the data set is not there, or has nothing to judge this model by.
    """
    records, form = records_of(dataset), read_spec(model_dir).image_form
    files = [Path(record["file_name"]) for record in records]
    begin("Evaluating eager detectron2", len(records))

    def eager() -> Iterable[dict[str, Any]]:
        for file in files:
            yield oracle.predict(read_image_file(file, form))
            advance()

    reference = _score(config, family, dataset, records, eager())
    begin("Evaluating the archive", len(records))
    return reference, evaluate_one(config, family, model_dir, dataset, gpu_id, advance)


def evaluate_one(
    config: ModelConfig,
    family: Family,
    model_dir: Path,
    dataset: str,
    gpu_id: int | None,
    advance: Callable[[], None],
) -> Scores:
    """Scores of an extracted archive alone; arguments as for ``evaluate``."""
    records = records_of(dataset)
    files = [[Path(record["file_name"])] for record in records]
    answers = replay(model_dir, files, gpu_id=gpu_id, progress=advance)
    predicted = (batch[0].to_detectron2() for batch in answers)
    return _score(config, family, dataset, records, predicted)


def records_of(dataset: str) -> list[dict[str, Any]]:
    """The records of a registered data set.

    Raises:
        EvaluationError: it is not there.
    """
    try:
        records: list[dict[str, Any]] = DatasetCatalog.get(dataset)
    except (KeyError, OSError, AssertionError) as error:
        raise EvaluationError(
            f"The data set {dataset} cannot be loaded ({one_line(error)}). Name the module that "
            "registers it (--import), set DETECTRON2_DATASETS, or name files: --coco-json F "
            "--image-root D."
        ) from error
    return records


def _score(
    config: ModelConfig,
    family: Family,
    dataset: str,
    records: list[dict[str, Any]],
    answers: Iterable[dict[str, Any]],
) -> Scores:
    with tempfile.TemporaryDirectory(prefix="d2serve-eval-") as folder:
        evaluators = _evaluators(config, family, dataset, records, folder)
        for evaluator in evaluators:
            evaluator.reset()
        for record, answer in zip(records, answers):
            for evaluator in evaluators:
                evaluator.process([record], [answer])
        results: dict[str, Any] = {}
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its tables
            for evaluator in evaluators:
                results.update(evaluator.evaluate())
    return {task: dict(metrics) for task, metrics in results.items()}


def _evaluators(
    config: ModelConfig,
    family: Family,
    dataset: str,
    records: list[dict[str, Any]],
    folder: str,
) -> list[DatasetEvaluator]:
    if family.box_mode == XYWHA_ABS:
        raise EvaluationError(
            "Rotated boxes are evaluated by detectron2's RotatedCOCOEvaluator, which needs its "
            "compiled operators; it is not part of this command. Compare the answers themselves: "
            "`d2serve verify --images DIR`."
        )
    chosen: list[DatasetEvaluator] = []
    if family.outputs != (SEM_SEG,):
        tasks = ("bbox",) * (BOXES in family.outputs)
        tasks += ("segm",) * (MASKS in family.outputs)
        tasks += ("keypoints",) * (KEYPOINTS in family.outputs)
        chosen.append(
            COCOEvaluator(
                dataset,
                tasks=tasks or ("bbox",),
                distributed=False,
                output_dir=folder,
                use_fast_impl=False,  # the fast one needs detectron2's compiled part
                kpt_oks_sigmas=config.keypoint_oks_sigmas,
            )
        )
    if SEM_SEG in family.outputs and "sem_seg_file_name" in records[0]:
        chosen.append(
            SemSegEvaluator(
                dataset, distributed=False, output_dir=None, sem_seg_loading_fn=_read_labels
            )
        )
    if not chosen:
        raise EvaluationError(
            f"{dataset} has no semantic labels (sem_seg_file_name), by which alone this model can "
            "be judged. Register a data set that has them (--import) and name it in the config's "
            "test data sets, then use --run-eval."
        )
    return chosen


def _read_labels(file: str, dtype: Any) -> np.ndarray:
    # detectron2's own asks for an array without a copy, which numpy 2 refuses.
    with Image.open(file) as image:
        return np.array(image, dtype=dtype)


def first_test_dataset(config: ModelConfig) -> str:
    """The data set that ``--run-eval`` uses, as upstream's export tool does.

    Raises:
        EvaluationError: the config names none, or its evaluator is another.
    """
    if not config.test_datasets:
        raise EvaluationError(
            "--run-eval evaluates on the config's first test data set, and it names none. Override "
            "it: DATASETS.TEST \"('my_dataset',)\", for a LazyConfig "
            "dataloader.test.dataset.names=my_dataset; or use `d2serve evaluate`."
        )
    name = config.test_datasets[0]
    known = ("coco", "sem_seg", "coco_panoptic_seg")
    if name in DatasetCatalog:
        kind = MetadataCatalog.get(name).get("evaluator_type", "coco")
        if kind not in known:
            raise EvaluationError(
                f"{name} is evaluated by {kind!r} in detectron2; --run-eval knows "
                f"{', '.join(known)}."
            )
    return name
