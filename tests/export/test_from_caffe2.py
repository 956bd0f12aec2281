"""Caffe2's files become an archive, without detectron2, or a sentence says why not.

The files are upstream's own (tests/data/caffe2), and what the archive answers is held against what
Caffe2 itself answered to them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d2serve.export.errors import ConfigError, SampleError
from d2serve.export.from_caffe2 import EAGER, Caffe2Request, export_files
from d2serve.export.proof.beside_eager import read_beside
from d2serve.export.reading.caffe2_files import read_caffe2_files
from d2serve.export.reading.config import ConfigSource
from d2serve.export.request import Progress
from d2serve.handlers.detector import Detector
from d2serve.handlers.netdef.messages import NetDef, decode, encode
from d2serve.handlers.spec.model_spec import PanopticMerge
from d2serve.handlers.spec.output_names import HEATMAPS, KEYPOINTS, MASKS, SEM_SEG
from tests.upstream_files import DETECTIONS, FOLDER, MODELS, SCENE, recorded

INSTANCES = ("pred_boxes", "scores", "pred_classes")
CLASSES = ["circle", "rectangle", "triangle"]
SILENT = Progress(lambda _step, _parts: None, lambda: None)
PREPARED: dict[str, Any] = {"min_size_test": 147, "max_size_test": 240, "image_format": "BGR"}
"""At which the scene keeps its size."""


def asked(folder: Path, store: Path, **options: Any) -> Caffe2Request:
    return Caffe2Request(folder, "old", output=store, **options)


def config_of(model: str, *overrides: str) -> ConfigSource:
    return ConfigSource(str(MODELS / f"{model}.yaml"), overrides)


def copied(name: str, to: Path) -> Path:
    return Path(shutil.copytree(FOLDER / name, to / name))


@pytest.mark.parametrize(
    ("name", "family", "outputs"),
    [
        ("mask_rcnn_fpn", "Mask R-CNN FPN", (MASKS,)),
        ("keypoint_rcnn_fpn", "Keypoint R-CNN FPN", (HEATMAPS,)),
        ("keypoint_rcnn_fpn_max", "Keypoint R-CNN FPN", (KEYPOINTS,)),
        ("panoptic_fpn", "Panoptic FPN (Mask R-CNN FPN)", (MASKS, SEM_SEG)),
        ("retinanet", "RetinaNet", ()),
        ("faster_rcnn_c4", "Faster R-CNN on one level", ()),
    ],
)
def test_what_files_say_of_their_model(name: str, family: str, outputs: tuple[str, ...]) -> None:
    files = read_caffe2_files(FOLDER / name)
    found = files.family
    assert (found.name, found.outputs) == (family, (*INSTANCES, *outputs))
    assert (found.num_classes, files.channels) == (3, 3)
    assert (found.score_thresh, found.nms_thresh, found.detections_per_image) == (0.25, 0.5, 100)
    assert files.num_labels == (4 if SEM_SEG in outputs else None)
    assert found.panoptic == (PanopticMerge(0.5, 1024, 0.5) if SEM_SEG in outputs else None)


@pytest.mark.export
def test_an_archive_answers_as_caffe2_and_needs_no_detectron2(tmp_path: Path) -> None:
    words = ["export", "--from-caffe2", str(FOLDER / "mask_rcnn_fpn"), "--name", "old"]
    words += ["--min-size-test", "147", "--max-size-test", "240", "--image-format", "BGR"]
    words += ["--class-names", ",".join(CLASSES), "--output", str(tmp_path)]
    without = "import sys; sys.modules['detectron2'] = None; from d2serve.cli.main import main"
    command = [sys.executable, "-c", f"{without}; sys.argv[1:] = {words!r}; main()"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Caffe2Model" in done.stdout
    assert "model.pb, sha256" in done.stdout

    expected = recorded("mask_rcnn_fpn")[DETECTIONS].outputs
    order = np.argsort(-expected["score_nms"])
    with Detector.open(tmp_path / "old.mar") as detector:
        assert detector.spec.runtime == "caffe2"
        assert detector.spec.class_names == tuple(CLASSES)
        assert "detectron2" not in detector.spec.versions
        (answer,) = detector([np.asarray(Image.open(SCENE))])
    found = answer.instances
    assert found is not None
    assert len(found) == len(order) > 5
    assert found.classes.tolist() == expected["class_nms"][order].tolist()
    assert np.allclose(found.scores, expected["score_nms"][order], atol=1e-4)
    assert np.allclose(found.boxes, expected["bbox_nms"][order], atol=2e-3)
    assert found.masks is not None


@pytest.mark.export
@pytest.mark.long
@pytest.mark.parametrize("name", ["retinanet", "panoptic_fpn"])
def test_with_their_config_and_weights_detectron2_is_asked_as_well(
    name: str, tmp_path: Path
) -> None:
    source = config_of(name, "MODEL.WEIGHTS", str(MODELS / f"{name}.pth"))
    result = export_files(asked(FOLDER / name, tmp_path, source=source), SILENT)
    beside = result.spec.verification[EAGER]
    assert beside["differences"]
    assert result.spec.image_format == ("RGB" if name == "retinanet" else "BGR")
    misses = [each for each in beside["differences"] if each["misses"]]
    told = " ".join(result.notes)
    if name == "retinanet":
        assert not misses
        assert "answers the same" in told
    else:  # upstream enlarges sem_seg so that it fades at the borders
        assert misses
        assert "sem_seg in" in told
        assert "leave out --from-caffe2" in told


def test_a_config_whose_weights_are_gone_says_how_images_are_prepared() -> None:
    files = read_caffe2_files(FOLDER / "retinanet")
    source = config_of("retinanet", "MODEL.RETINANET.SCORE_THRESH_TEST", "0.1")
    beside = read_beside(source, files, CLASSES, None)
    assert beside.oracle is None
    assert (beside.config.min_size_test, beside.form.image_format) == (160, "RGB")
    assert beside.names.classes == tuple(CLASSES)
    told = " ".join(beside.notes)
    assert "The score threshold is 0.25 in the files, which is what counts, and 0.1" in told
    assert "no file of this machine" in told


def test_a_config_of_another_model_is_refused(tmp_path: Path) -> None:
    request = asked(FOLDER / "keypoint_rcnn_fpn", tmp_path, source=config_of("mask_rcnn_fpn"))
    with pytest.raises(ConfigError, match=r"describes a Mask R-CNN FPN with outputs .*Keypoint"):
        export_files(request, SILENT)
    classes = config_of("mask_rcnn_fpn", "MODEL.ROI_HEADS.NUM_CLASSES", "80")
    with pytest.raises(ConfigError, match="classes 80, not 3"):
        export_files(asked(FOLDER / "mask_rcnn_fpn", tmp_path, source=classes), SILENT)


def _cut(folder: Path) -> None:
    file = folder / "model_init.pb"
    file.write_bytes(file.read_bytes()[:-100])


def _foreign(folder: Path) -> None:
    net = decode(NetDef, (folder / "model.pb").read_bytes())
    renamed = tuple(replace(each, type="Foo") if each.type == "Relu" else each for each in net.op)
    (folder / "model.pb").write_bytes(encode(replace(net, op=renamed)))


def _without_weights(folder: Path) -> None:
    (folder / "model_init.pb").unlink()


def _swapped(folder: Path) -> None:
    shutil.copy(folder / "model_init.pb", folder / "model.pb")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, r"model_init\.pb is no network of Caffe2 .*damaged, cut short"),
        (_foreign, r"model\.pb uses the operator Foo, which d2serve does not run"),
        (_without_weights, r"model_init\.pb cannot be read .*expected a folder with model\.pb"),
        (_swapped, r"model\.pb"),
        (shutil.rmtree, r"model\.pb cannot be read"),
    ],
)
def test_files_that_cannot_be_run_are_refused(damage: Any, message: str, tmp_path: Path) -> None:
    folder, store = copied("mask_rcnn_fpn", tmp_path), tmp_path / "store"
    damage(folder)
    with pytest.raises(ConfigError, match=f"--from-caffe2 .*{message}"):
        export_files(asked(folder, store, **PREPARED), SILENT)
    assert not store.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"--min-size-test, --max-size-test, --image-format must be given"),
        ({"min_size_test": 160}, r": --max-size-test, --image-format must be given"),
        ({**PREPARED, "min_size_test": -1}, r"--min-size-test is -1"),
        ({**PREPARED, "image_format": "HSV"}, r"--image-format is 'HSV', expected one of BGR"),
        ({**PREPARED, "image_format": "RGBA"}, r"RGBA has 4 channels, .*mean of 3 values"),
        ({**PREPARED, "class_names": ["one"]}, r"--class-names has 1 names, the model has 3"),
        ({**PREPARED, "stuff_class_names": ["sky"]}, r"no semantic segmentation: leave it out"),
        ({**PREPARED, "name": "a/b"}, r"--name is 'a/b'"),
    ],
)
def test_what_the_files_do_not_say_must_be_given(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    request = replace(asked(FOLDER / "mask_rcnn_fpn", tmp_path / "store"), **options)
    with pytest.raises(ConfigError, match=message):
        export_files(request, SILENT)
    assert not (tmp_path / "store").exists()


def test_a_sample_without_detections_proves_nothing(tmp_path: Path) -> None:
    grey = tmp_path / "grey.png"
    Image.new("RGB", (200, 150), (128, 128, 128)).save(grey)
    request = asked(FOLDER / "mask_rcnn_fpn", tmp_path / "store", sample_image=grey, **PREPARED)
    with pytest.raises(SampleError, match="finds nothing in the sample image"):
        export_files(request, SILENT)
