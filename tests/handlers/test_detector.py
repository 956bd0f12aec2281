"""From pixels to detections with programs whose answers are known, of both calling conventions."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from d2serve.handlers.detector import Detector
from d2serve.handlers.errors import (
    InvalidImage,
    LoadError,
    ModelFailed,
    SpecError,
    UnsupportedImageFormat,
)
from d2serve.handlers.outputs.records import Float32, Outputs
from d2serve.handlers.requests import jpeg
from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.requests.preprocessing import preprocess
from d2serve.handlers.runtimes.batching import BatchPlanner
from d2serve.handlers.runtimes.raw_outputs import RawOutputs
from tests.handlers.programs import UNLUCKY, write_archive
from tests.handlers.samples import coco_rles, picture, saved, spec_with


def grey(height: int, width: int, value: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


IMAGES = [grey(40, 60, 51), grey(25, 90, 102), grey(7, 5, 0), grey(64, 64, 255)]


def assert_right(answers: Sequence[object], images: Sequence[NDArray[np.uint8]], seen: int) -> None:
    """``seen``: how many images the program got at once, which it tells as the class."""
    assert len(answers) == len(images)
    for answer, image in zip(answers, images):
        assert isinstance(answer, Outputs)
        height, width = image.shape[:2]
        assert (answer.height, answer.width) == (height, width)
        found = answer.instances
        assert found is not None
        assert (found.height, found.width) == (height, width)
        np.testing.assert_allclose(found.boxes, [[0, 0, width / 2, height / 2]], rtol=1e-6)
        np.testing.assert_allclose(found.scores, [image.mean() / 255], rtol=1e-6)
        assert found.classes.tolist() == [seen]
        assert found.masks is not None
        assert len(found.masks) == 1


@pytest.mark.parametrize(("batching", "seen"), [("always", 4), ("never", 1), ("auto", 1)])
def test_scripted(scripted_archive: Path, batching: str, seen: int) -> None:
    detector = Detector.open(scripted_archive, batching=batching)
    assert_right(detector(IMAGES), IMAGES, seen)


@pytest.mark.parametrize("batching", ["never", "auto"])
def test_traced(traced_archive: Path, batching: str) -> None:
    assert_right(Detector.open(traced_archive, batching=batching)(IMAGES), IMAGES, 1)


def test_no_images(scripted_archive: Path) -> None:
    assert Detector.open(scripted_archive, batching="always")([]) == []


@pytest.mark.parametrize("method", ["scripting", "tracing"])
@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_answers_are_in_the_coordinates_of_the_image_that_was_sent(
    tmp_path: Path, method: str, image_format: str
) -> None:
    sizes = {"min_size_test": 32, "max_size_test": 50, "image_format": image_format}
    detector = Detector.open(write_archive(tmp_path, method, **sizes))
    assert_right(detector(IMAGES), IMAGES, 1)


def test_masks_are_those_of_the_box(traced_archive: Path) -> None:
    (answer,) = Detector.open(traced_archive)([grey(40, 60, 9)])
    whole = np.zeros((1, 40, 60))
    whole[0, :20, :30] = 1
    assert list((answer.instances and answer.instances.masks) or ()) == coco_rles(whole)


def test_always_is_refused_for_a_traced_program(traced_archive: Path) -> None:
    with pytest.raises(LoadError, match="one image at a time"):
        Detector.open(traced_archive, batching="always")


def test_a_folder_that_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"No readable model_spec.json"):
        Detector.open(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(scripted_archive: Path) -> None:
    with pytest.raises(LoadError, match="sees no CUDA device"):
        Detector.open(scripted_archive, device="cuda:0")


@pytest.mark.parametrize("batching", ["always", "never"])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_an_image_that_fails_harms_no_other(
    scripted_archive: Path, batching: str, place: int
) -> None:
    detector = Detector.open(scripted_archive, batching=batching)
    images = [*IMAGES[:place], grey(9, 9, UNLUCKY), *IMAGES[place:]]
    answered = detector.answer([preprocess(image, detector.spec) for image in images])
    failed = answered.pop(place)
    assert isinstance(failed.outcome, ModelFailed)
    assert (failed.call, failed.seconds) == (None, {})
    assert "an unlucky image" in str(failed.outcome)
    assert "\n" not in str(failed.outcome)
    assert_right([each.outcome for each in answered], IMAGES, 1)


@pytest.mark.parametrize(("batching", "calls"), [("always", 1), ("never", len(IMAGES))])
def test_images_that_share_a_call_say_so(scripted_archive: Path, batching: str, calls: int) -> None:
    detector = Detector.open(scripted_archive, batching=batching)
    answered = detector.answer([preprocess(image, detector.spec) for image in IMAGES])
    made = {each.call for each in answered if each.call is not None}
    assert len(made) == calls
    assert sum(each.images for each in made) == len(IMAGES)
    for each in answered:
        assert each.call is not None
        assert each.seconds["forward"] == each.call.seconds > 0
        assert 0 < each.seconds["postprocess"] < 60


def test_calling_it_raises_what_failed(scripted_archive: Path) -> None:
    with pytest.raises(ModelFailed, match="an unlucky image"):
        Detector.open(scripted_archive)([IMAGES[0], grey(9, 9, UNLUCKY)])


@pytest.mark.parametrize("method", ["scripting", "tracing"])
def test_it_needs_only_its_own_folder(tmp_path: Path, method: str) -> None:
    (tmp_path / "made").mkdir()
    moved = shutil.move(write_archive(tmp_path / "made", method), tmp_path / "moved")
    detector = Detector.open(Path(moved))
    detector.warm_up()
    assert_right(detector(IMAGES[:1]), IMAGES[:1], 1)


class FakeRuntime:
    """Answers every image with the same outputs, and remembers the shapes that it was given."""

    on_gpu = False

    def __init__(self, outputs: RawOutputs | None = None) -> None:
        self.outputs = outputs or {}
        self.shapes: list[tuple[int, ...]] = []
        self.threads = 0

    def run(self, images: Sequence[Float32], *_: object) -> list[RawOutputs]:
        self.shapes += [image.shape for image in images]
        return [self.outputs for _ in images]

    def set_threads(self, threads: int) -> None:
        self.threads = threads


def test_warming_up_runs_the_program_once() -> None:
    fake = FakeRuntime()
    Detector(spec_with(), fake, BatchPlanner("never", True, False)).warm_up()
    assert fake.shapes == [(3, 64, 64)]


def test_after_warming_up_the_first_jpeg_is_like_any_other() -> None:
    jpeg._same_here.cache_clear()
    Detector(spec_with(), FakeRuntime(), BatchPlanner("never", True, False)).warm_up()
    assert jpeg._same_here.cache_info().misses == 1
    decode(saved(picture(40, 30, "RGB"), "JPEG"))
    assert jpeg._same_here.cache_info().misses == 1


def test_threads_are_passed_on() -> None:
    fake = FakeRuntime()
    Detector(spec_with(), fake, BatchPlanner("never", True, False)).set_threads(3)
    assert fake.threads == 3


ANSWER: RawOutputs = {
    "pred_boxes": np.array([[0, 0, 5, 5]], np.float32),
    "scores": np.ones(1, np.float32),
    "pred_classes": np.zeros(1, np.int64),
}


class Miscounting(FakeRuntime):
    """Answers so many images more than it was given, or fewer; of one image it may be right."""

    def __init__(self, more: int, also_alone: bool) -> None:
        super().__init__(ANSWER)
        self.more, self.also_alone = more, also_alone

    def run(self, images: Sequence[Float32], *_: object) -> list[RawOutputs]:
        right = len(images) == 1 and not self.also_alone
        return [self.outputs] * (len(images) + (0 if right else self.more))


@pytest.mark.parametrize(("more", "said"), [(-1, "0 of 1 images"), (2, "3 of 1 images")])
def test_a_program_that_owes_results_says_how_many(
    more: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    detector = Detector(spec_with(), Miscounting(more, True), BatchPlanner("always", True, False))
    answered = detector.answer([preprocess(image, detector.spec) for image in IMAGES])
    assert len(answered) == len(IMAGES)
    for each in answered:
        assert isinstance(each.outcome, ModelFailed)
        assert f"the program answered {said}" in str(each.outcome)
    assert f"the program answered {4 + more} of 4 images" in caplog.text


@pytest.mark.parametrize("more", [-1, 1])
def test_images_of_a_batch_with_too_few_results_are_answered_one_by_one(more: int) -> None:
    detector = Detector(spec_with(), Miscounting(more, False), BatchPlanner("always", True, False))
    answers = detector(IMAGES)
    assert [answer.instances is not None for answer in answers] == [True] * 4


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 5, 3), np.float32), "(4, 5, 3) and dtype float32.*(image * 255)"),
        (np.zeros((4, 5, 3), np.int64), "dtype int64, expected (height, width, 3) uint8"),
        (np.zeros((3, 4, 5), np.uint8), "(3, 4, 5) and dtype uint8.*image.transpose(1, 2, 0)"),
        (np.zeros((4, 5), np.uint8), "(4, 5) and .*np.stack"),
        (np.zeros((4, 5, 4), np.uint8), "image[:, :, :3]"),
        (np.zeros((1, 4, 5, 3), np.uint8), "It is a batch: give its images one by one"),
        (np.zeros((0, 5, 3), np.uint8), "It has no pixels"),
        (np.zeros((4, 5, 1), np.uint8), "Read it as an RGB image"),
        (torch.zeros(4, 5, 3), "is a torch.Tensor, expected a numpy array .*, a PIL image, a path"),
    ],
)
def test_pixels_of_another_kind_are_refused(scripted_archive: Path, image: Any, said: str) -> None:
    pattern = ".*".join(re.escape(part) for part in said.split(".*"))
    with pytest.raises(InvalidImage, match=f"image 1 .*{pattern}"):
        Detector.open(scripted_archive)([IMAGES[0], image])


def test_an_image_of_every_kind_is_the_same_image(scripted_archive: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    picture = Image.fromarray(pixels)
    file = tmp_path / "a.png"
    picture.save(file)
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    with Detector.open(scripted_archive) as detector:
        (expected,) = detector([pixels])
        for image in (pixels, picture, turned, file, str(file), file.read_bytes()):
            answer = detector(image)
            assert isinstance(answer, Outputs)
            assert_right([answer], [pixels], 1)
        mixed = detector([file, picture, pixels])
        assert [each.instances is not None for each in mixed] == [True] * 3
        batch: Any = np.stack([pixels, pixels])
        assert_right(detector(batch), [pixels, pixels], 1)
        assert detector([]) == []
        palette = picture.convert("P")
        found, same = detector(palette).instances, detector(palette.convert("RGB")).instances
        assert found is not None
        assert same is not None
        assert found.scores.tolist() == same.scores.tolist()
        with pytest.raises(FileNotFoundError):
            detector(tmp_path / "none.png")
        with pytest.raises(InvalidImage, match="image 0 has shape"):
            detector(pixels[0, 0])
        with pytest.raises(UnsupportedImageFormat):
            detector(b"no image")
    assert repr(expected) == (
        "Outputs(40 x 60 pixels, Detections(1 in 40 x 60 pixels, boxes (1, 4), "
        f"scores {pixels.mean() / 255:.3f} to {pixels.mean() / 255:.3f}, masks))"
    )
    assert expected.instances is not None
    masks = expected.instances.bitmasks()
    assert masks.shape == (1, 40, 60)
    assert masks.dtype == bool
    assert masks[0, :20, :30].all()
    assert masks.sum() == 600


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"pred_boxes": np.full((1, 4), np.nan, np.float32)}, id="boxes not a number"),
        pytest.param({"pred_boxes": np.zeros(4, np.float32)}, id="boxes of another rank"),
        pytest.param({"scores": np.zeros(0, np.float32)}, id="fewer scores than boxes"),
        pytest.param({"pred_masks": np.ones((1, 28), np.float32)}, id="masks of another rank"),
        pytest.param({"pred_masks": np.ones((0, 1, 28, 28), np.float32)}, id="no masks"),
        pytest.param({"pred_keypoints": np.ones((1, 3), np.float32)}, id="keypoints of a rank"),
    ],
)
def test_an_answer_that_makes_no_sense_is_the_models_failure(changes: RawOutputs) -> None:
    """It must not be an exception: that would fail the other images of the batch as well."""
    fake = FakeRuntime({**ANSWER, **changes})
    detector = Detector(spec_with(), fake, BatchPlanner("never", True, False))
    (answered,) = detector.answer([preprocess(IMAGES[0], detector.spec)])
    assert isinstance(answered.outcome, ModelFailed)
