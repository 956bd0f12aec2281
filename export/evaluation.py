"""Why: users judge a model by its COCO AP, so both sides are judged by detectron2's evaluator."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_mask

from d2serve.export.errors import EvaluationError, one_line
from d2serve.export.oracle import Oracle
from d2serve.export.replaying import replay
from d2serve.handlers.decoding import decode
from d2serve.handlers.detections import Detections

Scores = dict[str, dict[str, float]]
"""By task (bbox, segm, keypoints) and metric (AP, AP50, ...), in percent."""


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
    cfg: CfgNode,
    oracle: Oracle,
    model_dir: Path,
    dataset: str,
    gpu_id: int | None,
    begin: Callable[[str, int], None],
    advance: Callable[[], None],
) -> tuple[Scores, Scores]:
    """COCO AP of eager detectron2 and of an extracted archive on the same images.

    Args:
        cfg: the model's config.
        oracle: eager detectron2.
        model_dir: the extracted archive.
        dataset: name of a registered COCO-format data set.
        gpu_id: where the archive runs; None is the CPU.
        begin, advance: progress.

    Returns:
        Scores of eager detectron2, and of the archive.

    Raises:
        EvaluationError: the data set is not there.
    """
    records = records_of(dataset)
    files = [Path(record["file_name"]) for record in records]
    begin("Evaluating eager detectron2", len(records))

    def eager() -> Iterable[Instances]:
        for file in files:
            yield oracle.predict(decode(file.read_bytes()))
            advance()

    reference = _score(cfg, dataset, records, eager())
    begin("Evaluating the archive", len(records))
    return reference, evaluate_one(cfg, model_dir, dataset, gpu_id, advance)


def evaluate_one(
    cfg: CfgNode, model_dir: Path, dataset: str, gpu_id: int | None, advance: Callable[[], None]
) -> Scores:
    """COCO AP of an extracted archive alone; arguments as for ``evaluate``."""
    records = records_of(dataset)
    files = [[Path(record["file_name"])] for record in records]
    answers = replay(model_dir, files, gpu_id=gpu_id, progress=advance)
    return _score(cfg, dataset, records, (as_instances(batch[0]) for batch in answers))


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


def as_instances(detections: Detections) -> Instances:
    """An archive's answer as detectron2's Instances, on the CPU."""
    fields: dict[str, Any] = {
        "pred_boxes": Boxes(torch.from_numpy(detections.boxes)),
        "scores": torch.from_numpy(detections.scores),
        "pred_classes": torch.from_numpy(detections.classes),
    }
    if detections.masks is not None:
        decoded = [torch.from_numpy(coco_mask.decode(rle)).bool() for rle in detections.masks]
        fields["pred_masks"] = torch.stack(decoded)
    if detections.keypoints is not None:
        fields["pred_keypoints"] = torch.from_numpy(detections.keypoints)
    return Instances((detections.height, detections.width), **fields)


def _score(
    cfg: CfgNode, dataset: str, records: list[dict[str, Any]], answers: Iterable[Instances]
) -> Scores:
    tasks = ("bbox",) + ("segm",) * cfg.MODEL.MASK_ON + ("keypoints",) * cfg.MODEL.KEYPOINT_ON
    with tempfile.TemporaryDirectory(prefix="d2serve-eval-") as folder:
        evaluator = COCOEvaluator(
            dataset,
            tasks=tasks,
            distributed=False,
            output_dir=folder,
            use_fast_impl=False,  # the fast one needs detectron2's compiled part
            kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
        )
        evaluator.reset()
        for record, answer in zip(records, answers):
            evaluator.process([record], [{"instances": answer}])
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its tables
            results = evaluator.evaluate()
    return {task: dict(metrics) for task, metrics in results.items()}


def first_test_dataset(cfg: CfgNode) -> str:
    """The data set that ``--run-eval`` uses, as upstream's export tool does.

    Raises:
        EvaluationError: the config names none, or it has no COCO annotations.
    """
    if not cfg.DATASETS.TEST:
        raise EvaluationError(
            "--run-eval evaluates on DATASETS.TEST, which is empty in this config. Override it: "
            "DATASETS.TEST \"('my_dataset',)\", or use `d2serve evaluate`."
        )
    name: str = cfg.DATASETS.TEST[0]
    if name in DatasetCatalog and MetadataCatalog.get(name).get("evaluator_type", "coco") != "coco":
        raise EvaluationError(f"{name} is not a COCO-format data set; --run-eval gives COCO AP.")
    return name
