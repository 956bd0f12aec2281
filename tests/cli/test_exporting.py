"""The commands around an export, as a user runs them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from d2serve.cli.app import app
from examples.shapes.dataset import register_generated
from examples.shapes.generate import generate_split
from examples.shapes.schema import IMAGES_FOLDER
from tests.conftest import Exporter, HeldOut, config_of
from tests.upstream_files import FOLDER, MODELS

CONFIG = str(config_of("mask_rcnn_fpn"))
WIDE = {"COLUMNS": "200"}
FILES = FOLDER / "mask_rcnn_fpn"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words, env=WIDE)


@pytest.fixture(scope="module")
def archive(exported: Exporter) -> Path:
    return exported("mask_rcnn_fpn", "tracing")


def test_help_lists_every_command() -> None:
    shown = run("--help").output
    for command in ("export", "inspect", "verify", "evaluate", "serve", "predict"):
        assert command in shown


def test_inspect_prints_the_spec_and_the_record(archive: Path) -> None:
    result = run("inspect", str(archive))
    assert result.exit_code == 0, result.output
    for text in ("Mask R-CNN FPN", "tracing", "BGR", "circle", "sha256", "480x640", "zero", "one"):
        assert text in result.output


def test_verify_compares_on_the_users_own_images(
    archive: Path, tmp_path: Path, held_out: HeldOut
) -> None:
    for file in held_out.images[:4]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    result = run("verify", str(archive), "--config-file", CONFIG, "--images", str(tmp_path))
    assert result.exit_code == 0, result.output
    for file in held_out.images[:4]:
        assert file.name in result.output


def test_verify_refuses_an_archive_of_other_weights(exported: Exporter) -> None:
    other = exported("faster_rcnn_fpn", "tracing")
    result = run("verify", str(other), "--config-file", CONFIG)
    assert result.exit_code == 1
    assert "is not detectron2's" in result.output
    named = re.search(
        r"Pictures of where they differ, the worst first, are in (\S+)", result.output
    )
    assert named is not None, "the folder stands in the error"
    assert len([*Path(named[1]).glob("*.png")]) == 3
    shutil.rmtree(named[1])


def test_verify_says_that_images_are_prepared_otherwise(archive: Path) -> None:
    result = run("verify", str(archive), "--config-file", CONFIG, "INPUT.MIN_SIZE_TEST", "160")
    assert result.exit_code == 1
    shown = " ".join(result.output.split())
    assert "short edge (MIN_SIZE_TEST) 160, not 192" in shown
    assert "Nothing was written" not in shown


def test_verify_says_that_the_config_is_another(archive: Path) -> None:
    words = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.5")
    shown = " ".join(run("verify", str(archive), "--config-file", CONFIG, *words).output.split())
    assert "is not detectron2's" in shown
    assert "was made of config mask_rcnn_fpn.yaml (sha256" in shown
    assert "Nothing was written" not in shown


def test_evaluate_takes_a_file_that_numbers_classes_otherwise(
    archive: Path, held_out: HeldOut, tmp_path: Path
) -> None:
    content = json.loads(held_out.annotations.read_text())
    wanted = [each for each in content["images"] if each["id"] <= 12]
    kept = {each["id"] for each in wanted}
    numbers = {1: 3, 2: 2, 3: 1}
    content["images"] = wanted
    content["annotations"] = [
        {"image_id": each["image_id"], "bbox": each["bbox"]}
        | {"category_id": numbers[each["category_id"]], "segmentation": each["segmentation"]}
        for each in content["annotations"]
        if each["image_id"] in kept
    ]
    content["categories"] = [
        {"id": 0, "name": "shapes"},
        *({"id": numbers[each["id"]], "name": each["name"]} for each in content["categories"]),
    ]
    file = tmp_path / "roboflow.json"
    file.write_text(json.dumps(content))
    result = run(
        *("evaluate", str(archive), "--config-file", CONFIG, "--coco-json", str(file)),
        *("--image-root", str(held_out.annotations.parent / "images")),
        *("TEST.DETECTIONS_PER_IMAGE", "-1"),
    )
    assert result.exit_code == 0, result.output
    shown = " ".join(result.output.split())
    for text in ("matched by name", "0 shapes is none", "have no iscrowd", "have no area"):
        assert text in shown
    (row,) = (line for line in result.output.splitlines() if "bbox" in line and " AP " in line)
    scores = [float(cell) for cell in row.split("│")[3:6]]
    assert scores[0] == scores[1] > 60
    assert scores[2] == 0


@pytest.mark.export
def test_run_eval_prints_both_sides(tmp_path: Path) -> None:
    register_generated("heldout", generate_split(tmp_path, "heldout", 6).parent)
    result = run(
        *("export", "--config-file", CONFIG, "--export-method", "tracing", "--run-eval"),
        *("--import", "examples.shapes.dataset", "--output", str(tmp_path)),
    )
    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if "AP50" in line]
    assert {row.split()[1] for row in rows} == {"bbox", "segm"}
    assert all(row.split()[-2] == "+0.000" for row in rows)


@pytest.mark.export
def test_run_eval_takes_files_of_annotations(tmp_path: Path) -> None:
    """Which the config need not name: here of Caffe2 files that upstream's tracer wrote."""
    config, weights = (MODELS / f"mask_rcnn_fpn.{kind}" for kind in ("yaml", "pth"))
    annotations = generate_split(tmp_path, "heldout", 6)
    words = ["--from-caffe2", str(FILES), "--config-file", str(config), "--output", str(tmp_path)]
    words += ["--run-eval", "--coco-json", str(annotations)]
    words += ["--image-root", str(tmp_path / IMAGES_FOLDER)]
    result = run("export", *words, "MODEL.WEIGHTS", str(weights), "DATASETS.TEST", "()")
    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if "AP50" in line]
    assert {row.split()[1] for row in rows} == {"bbox", "segm"}
    assert all(row.split()[-2] == "+0.000" for row in rows)


@pytest.mark.export
def test_run_eval_names_what_it_needs(tmp_path: Path) -> None:
    words = ["--config-file", CONFIG, "--export-method", "tracing", "--output", str(tmp_path)]
    result = run("export", *words, "--run-eval", "DATASETS.TEST", "()")
    assert result.exit_code == 1
    assert "first test data set, and it names none" in " ".join(result.output.split())
    assert (tmp_path / "mask_rcnn_fpn.mar").is_file()  # the export itself was fine


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "cannot be read as COCO annotations"),
        (json.dumps({"images": [], "annotations": []}), "cannot be read as COCO annotations"),
        (
            json.dumps({"images": [{"file_name": "x"}], "annotations": [], "categories": []}),
            "1 of the 1 images",
        ),
    ],
)
def test_evaluate_names_a_wrong_data_set(
    content: str, message: str, archive: Path, tmp_path: Path
) -> None:
    annotations = tmp_path / "annotations.json"
    annotations.write_text(content)
    result = run(
        *("evaluate", str(archive), "--config-file", CONFIG),
        *("--coco-json", str(annotations), "--image-root", str(tmp_path)),
    )
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())


def test_a_mistake_is_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    result = run("inspect", str(tmp_path / "none.mar"))
    assert result.exit_code == 1
    assert "none.mar cannot be opened" in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_a_negative_number_is_the_value_of_a_key(tmp_path: Path) -> None:
    words = ("export", "--config-file", CONFIG, "--output", str(tmp_path))
    for override in (("TEST.DETECTIONS_PER_IMAGE", "-1"), ("MODEL.RPN.NMS_THRESH", "-0.5")):
        result = run(*words, *override, "MODEL.WEIGHTS", "/no/such.pth")
        assert "/no/such.pth" in result.output
        assert "No such option" not in result.output
    # It went into the config.
    result = run(*words, "INPUT.MIN_SIZE_TEST", "-x")
    assert "No such option" in result.output


def test_the_name_of_a_config_file_is_made_one_of_a_model(tmp_path: Path) -> None:
    file = tmp_path / "模型.yaml"
    file.write_text("VERSION: 2")
    result = run("export", "--config-file", str(file))
    assert result.exit_code == 1
    assert "模型.yaml" in result.output
    assert "--name model" in result.output


def test_a_store_that_cannot_be_written_is_said_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = ("--config-file", "no/such.yaml", "--output", str(tmp_path / "file" / "store"))
    result = run("export", *words)
    assert result.exit_code == 1
    assert "cannot be written to (Not a directory)" in " ".join(result.output.split())


def test_class_names_that_cannot_be_read_are_refused_before_any_work() -> None:
    words = ("export", "--config-file", "no/such.yaml", "--export-method", "tracing")
    result = run(*words, "--class-names", 'cat, "dog')
    assert result.exit_code == 1
    assert "--class-names is" in result.output
    assert "no/such.yaml" not in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--config-file is missing"),
        (["--from-caffe2", str(FILES), "--precision", "int8"], "--precision does not go with"),
        (
            ["--from-caffe2", str(FILES), "--format", "onnx", "--frozen"],
            "--frozen, --format do not",
        ),
        (["--from-caffe2", str(FILES), "MODEL.MASK_ON", "False"], "OVERRIDES needs --config-file"),
        (["--from-caffe2", str(FILES), "--run-eval"], "--run-eval needs --config-file"),
        (
            ["--from-caffe2", str(FILES), "--coco-json", "a.json", "--image-root", "images"],
            "--coco-json, --image-root do not go with",
        ),
        (["--from-caffe2", str(FILES), "--coco-json", "a.json"], "go together"),
        (["--from-caffe2", str(FILES)], "do not say how images are prepared"),
    ],
)
def test_what_an_export_of_caffe2_files_takes(words: list[str], message: str) -> None:
    result = run("export", *words)
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
