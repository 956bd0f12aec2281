"""Scores of eager detectron2 and of an archive on a data set, by detectron2's own evaluators.

Users judge a model by its AP or mIoU. Instances and proposals are judged by COCOEvaluator; labels
by SemSegEvaluator, where the data set has them.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, SemSegEvaluator
from PIL import Image

from d2serve.export.annotations.evaluation_sets import EvaluationSet
from d2serve.export.errors import EvaluationError, one_line
from d2serve.export.proof.isolated_replay import replay
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.config import ModelConfig
from d2serve.export.reading.image_files import Pixels, read_image_file
from d2serve.handlers.errors import RequestError
from d2serve.handlers.spec.image_form import ImageForm
from d2serve.handlers.spec.model_spec import read_spec

Scores = dict[str, dict[str, float]]
"""By task (bbox, segm, keypoints, box_proposals, sem_seg) and metric (AP, mIoU, ...), in percent.
"""

_MAIN_METRIC = {"sem_seg": "mIoU", "box_proposals": "AR@1000"}


# In AP points. A model that scores less finds next to nothing of what is annotated: it is judged on
# the annotations of something else, and another program that finds nothing would pass as well.
LEAST_AP = 5.0


def main_metric(task: str) -> str:
    """The one number by which a task is judged."""
    return _MAIN_METRIC.get(task, "AP")


def near_zero(scores: Scores) -> list[str]:
    """The tasks by whose score nothing can be judged, each with its score, in words."""
    mains = {task: each.get(main_metric(task), float("nan")) for task, each in scores.items()}
    return [
        f"{main_metric(task)} {value:.1f} ({task})"
        for task, value in mains.items()
        if not value >= LEAST_AP
    ]


def evaluate(
    oracle: Oracle,
    model_dir: Path,
    data: EvaluationSet,
    sigmas: Sequence[float],
    gpu_id: int | None,
    begin: Callable[[str, int], None],
    advance: Callable[[], None],
) -> tuple[Scores, Scores]:
    """Scores of eager detectron2 and of an extracted archive on the same images.

    Args:
        oracle: eager detectron2.
        model_dir: the extracted archive.
        data: what they are judged on.
        sigmas: OKS sigmas of the keypoints; empty is COCO's own.
        gpu_id: where the archive runs; None is the CPU.
        begin, advance: progress.

    Returns:
        Scores of eager detectron2, and of the archive.

    Raises:
        EvaluationError: an image cannot be read.
    """
    begin("Evaluating eager detectron2", len(data.records))
    form = read_spec(model_dir).image_form

    def eager() -> Iterator[dict[str, Any]]:
        for record in data.records:
            yield oracle.predict(_read(Path(record["file_name"]), form))
            advance()

    reference = _score(data, sigmas, eager())
    begin("Evaluating the archive", len(data.records))
    return reference, evaluate_one(model_dir, data, sigmas, gpu_id, advance)


def evaluate_one(
    model_dir: Path,
    data: EvaluationSet,
    sigmas: Sequence[float],
    gpu_id: int | None,
    advance: Callable[[], None],
) -> Scores:
    """Scores of an extracted archive alone; arguments as for ``evaluate``."""
    files = [[Path(record["file_name"])] for record in data.records]
    answers = replay(model_dir, files, gpu_id=gpu_id, progress=advance)
    predicted = (batch[0].to_detectron2() for batch in answers)
    return _score(data, sigmas, predicted)


def _read(file: Path, form: ImageForm) -> Pixels:
    try:
        return read_image_file(file, form)
    except (OSError, RequestError) as error:
        raise EvaluationError(f"The image {file} cannot be read: {one_line(error)}") from error


def _score(
    data: EvaluationSet, sigmas: Sequence[float], answers: Iterable[dict[str, Any]]
) -> Scores:
    with tempfile.TemporaryDirectory(prefix="d2serve-eval-") as folder:
        evaluators = _evaluators(data, sigmas, folder)
        for evaluator in evaluators:
            evaluator.reset()
        for record, answer in zip(data.records, answers):
            for evaluator in evaluators:
                evaluator.process([record], [answer])
        results: dict[str, Any] = {}
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its tables
            for evaluator in evaluators:
                results.update(evaluator.evaluate())
    return {task: dict(metrics) for task, metrics in results.items()}


def _evaluators(
    data: EvaluationSet, sigmas: Sequence[float], folder: str
) -> list[DatasetEvaluator]:
    chosen: list[DatasetEvaluator] = []
    if data.instances is not None:
        chosen.append(
            COCOEvaluator(
                data.instances,
                tasks=data.tasks,
                distributed=False,
                output_dir=folder,
                use_fast_impl=False,  # the fast one needs detectron2's compiled part
                kpt_oks_sigmas=tuple(sigmas),
            )
        )
    if data.labels is not None:
        known = len(MetadataCatalog.get(data.labels).stuff_classes)
        ignored = MetadataCatalog.get(data.labels).ignore_label
        chosen.append(
            SemSegEvaluator(
                data.labels,
                distributed=False,
                output_dir=None,
                sem_seg_loading_fn=partial(_read_labels, known=known, ignored=ignored),
            )
        )
    return chosen


def _read_labels(file: str, dtype: Any, known: int, ignored: int) -> np.ndarray:
    # detectron2's own asks for an array without a copy, which numpy 2 refuses.
    try:
        with Image.open(file) as image:
            labels = np.array(image, dtype=dtype)
    except Exception as error:  # Pillow raises nearly anything on damaged files
        raise EvaluationError(
            f"The label file {file} cannot be read ({one_line(error)})."
        ) from error
    beyond = np.unique(labels[(labels >= known) & (labels != ignored)])[:5]
    if labels.ndim != 2 or beyond.size:
        got = f"the labels {beyond.tolist()}" if labels.ndim == 2 else "colours"
        raise EvaluationError(
            f"The label file {file} has {got}, expected one channel with 0 to {known - 1}, or "
            f"{ignored} for what is ignored."
        )
    return labels


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
