"""What differs is named and can be seen: the instance, the field, and where to look."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from d2serve.export.proof.comparing.comparison import compare
from d2serve.export.proof.differences.finding import Finding
from d2serve.export.proof.differences.findings import ImageFindings, find
from d2serve.export.proof.differences.gallery import Failures, Gallery
from d2serve.export.proof.differences.panels import ARCHIVE, BOTH, EAGER
from d2serve.export.proof.differences.views import Window
from d2serve.handlers.outputs.records import Detections, Outputs, PanopticSeg, Proposals, Segment
from d2serve.handlers.outputs.rle import Rle
from d2serve.handlers.replies.drawing import Legend
from d2serve.handlers.spec.bounds import ONNX_BOUNDS, TORCHSCRIPT_BOUNDS

HEIGHT, WIDTH = 120, 160
LEGEND = Legend("XYXY_ABS", {0: "cat", 1: "dog"}, {0: "sky", 1: "road"})
PHOTO = np.random.default_rng(0).integers(60, 200, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def mask(top: int, left: int, bottom: int, right: int) -> Rle:
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    pixels[top:bottom, left:right] = 1
    return {"size": [HEIGHT, WIDTH], "counts": coco_mask.encode(pixels)["counts"].decode()}


def answer(**parts: object) -> Outputs:
    whole = {"instances": None, "sem_seg": None, "panoptic_seg": None, "proposals": None}
    return Outputs(HEIGHT, WIDTH, **{**whole, **parts})  # type: ignore[arg-type]


FOUND = Detections(
    height=HEIGHT,
    width=WIDTH,
    boxes=np.array([[10, 10, 60, 50], [80, 20, 140, 90], [20, 70, 50, 110]], np.float32),
    scores=np.array([0.9, 0.8, 0.3], np.float32),
    classes=np.array([0, 1, 0]),
    masks=(mask(10, 10, 50, 60), mask(20, 80, 90, 140), mask(70, 20, 110, 50)),
    keypoints=np.tile(np.array([[[30, 30, 0.5], [40, 35, 0.5]]], np.float32), (3, 1, 1)),
)


def found(got: Detections, expected: Detections = FOUND) -> ImageFindings:
    sides = answer(instances=expected), answer(instances=got)
    return find(*sides, LEGEND, TORCHSCRIPT_BOUNDS)


def greatest(findings: ImageFindings) -> Finding:
    return findings.findings[0]


def without(index: int) -> Detections:
    kept = [i for i in range(3) if i != index]
    assert FOUND.masks is not None
    assert FOUND.keypoints is not None
    return replace(
        FOUND,
        boxes=FOUND.boxes[kept],
        scores=FOUND.scores[kept],
        classes=FOUND.classes[kept],
        masks=tuple(FOUND.masks[i] for i in kept),
        keypoints=FOUND.keypoints[kept],
    )


def moved(part: str, index: int, by: object) -> Detections:
    values = getattr(FOUND, part).copy()
    values[index] += np.asarray(by, values.dtype)
    return replace(FOUND, **{part: values})


def test_equal_answers_have_no_findings() -> None:
    assert found(FOUND).findings == ()


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (without(1), "instance 1 (dog 0.80) is missing from the archive's answer"),
        (moved("boxes", 1, [0, 0, 9, 0]), "the box of instance 1 (dog 0.80) by 9 px"),
        (moved("scores", 0, -0.25), "the score of instance 0 (cat 0.90) by 0.25"),
        (moved("classes", 2, 1), "instance 2 (cat 0.30) is dog in the archive's answer"),
        (
            moved("keypoints", 1, [[0, 0, 0], [3, 4, 0]]),
            "keypoint 1 of instance 1 (dog 0.80) by 5 px",
        ),
        (
            replace(
                FOUND, masks=(mask(10, 10, 50, 60), mask(20, 80, 90, 130), mask(70, 20, 110, 50))
            ),
            "the mask of instance 1 (dog 0.80) in 700 pixels (IoU 0.8333)",
        ),
    ],
)
def test_the_instance_and_the_field_are_named(got: Detections, said: str) -> None:
    first = greatest(found(got))
    assert first.text == said
    assert first.differs


def test_what_only_the_archive_has_is_named() -> None:
    assert greatest(found(FOUND, without(0))).text == (
        "instance 0 (cat 0.90) is in the archive's answer only"
    )


def test_the_greatest_of_certain_instances_comes_first() -> None:
    """A doubtful one that is further off is listed behind."""
    both = moved("boxes", 2, [0, 0, 6, 0])
    both.boxes[0] += np.array([0, 0, 5, 0], np.float32)
    texts = [each.text for each in found(both).findings]
    assert texts == [
        "the box of instance 0 (cat 0.90) by 5 px",
        "the box of instance 2 (cat 0.30) by 6 px",
    ]


def test_rotated_boxes_are_compared_by_their_corners() -> None:
    rotated = np.array([[60, 60, 50, 20, 0]], np.float32)
    one = Detections(HEIGHT, WIDTH, rotated, np.array([0.9], np.float32), np.array([0]), None, None)
    turned = replace(one, boxes=rotated + np.array([0, 0, 0, 0, 10], np.float32))
    first = greatest(found(turned, one))
    # The corner is 26.9 px from the middle, and goes around it by 10 degrees.
    assert first.text.startswith("the box of instance 0 (cat 0.90) by 4.")


def test_a_box_seen_from_another_side_lies_where_it_lies() -> None:
    one = Detections(
        HEIGHT,
        WIDTH,
        np.array([[60, 60, 50, 20, 0]], np.float32),
        np.array([0.9], np.float32),
        np.array([0]),
        None,
        None,
    )
    turned = replace(one, boxes=np.array([[60, 60, 20, 50, 90]], np.float32))
    assert all(each.amount < 1e-4 for each in found(turned, one).findings)


def test_a_label_map_says_which_labels_are_taken_for_each_other() -> None:
    sem_seg = np.zeros((HEIGHT, WIDTH), np.int32)
    other = sem_seg.copy()
    other[60:80, 100:130] = 1
    (first,) = find(answer(sem_seg=sem_seg), answer(sem_seg=other), LEGEND, ONNX_BOUNDS).findings
    assert first.text == (
        "sem_seg in 600 pixels (3.1 %), most often sky for eager, road for the archive"
    )
    x0, y0, x1, y1 = first.region
    assert x0 < 130
    assert x1 > 100
    assert y0 < 80
    assert y1 > 60


def test_numbers_of_segments_mean_nothing() -> None:
    labels = np.ones((HEIGHT, WIDTH), np.int32)
    labels[:, 80:] = 2
    sky = Segment(1, 0, False, 9600, None, None)
    cat = Segment(2, 0, True, 9600, 0.9, 0)
    mine = PanopticSeg(labels, (sky, cat))
    renumbered = PanopticSeg(3 - labels, (replace(cat, id=1), replace(sky, id=2)))
    sides = answer(panoptic_seg=mine), answer(panoptic_seg=renumbered)
    assert find(*sides, LEGEND, ONNX_BOUNDS).findings == ()
    changed = renumbered.labels.copy()
    changed[:30, :40] = 1
    sides = answer(panoptic_seg=mine), answer(panoptic_seg=replace(renumbered, labels=changed))
    (first,) = find(*sides, LEGEND, ONNX_BOUNDS).findings
    assert first.text == (
        "panoptic_seg in 1,200 pixels (6.2 %), most often sky for eager, cat for the archive"
    )


def test_proposals_are_paired_by_place() -> None:
    boxes = FOUND.boxes
    mine = answer(proposals=Proposals(boxes, np.array([5, 4, 3], np.float32)))
    theirs = answer(proposals=Proposals(boxes[::-1], np.array([5, 4, 3], np.float32)))
    assert find(mine, theirs, LEGEND, ONNX_BOUNDS).pairing.pairs == ((0, 2), (1, 1), (2, 0))


def seen(got: Detections | Outputs, expected: Outputs | None = None, most: int = 3) -> Gallery:
    gallery = Gallery(LEGEND, TORCHSCRIPT_BOUNDS, most)
    show(gallery, "photo", got, expected)
    return gallery


def show(
    gallery: Gallery | Failures,
    name: str,
    got: Detections | Outputs,
    expected: Outputs | None = None,
) -> None:
    mine = expected or answer(instances=FOUND)
    theirs = answer(instances=got) if isinstance(got, Detections) else got
    gallery.see(PHOTO, mine, theirs, compare(name, mine, theirs, TORCHSCRIPT_BOUNDS))


def of_colour(picture: npt.NDArray[np.uint8], colour: tuple[int, int, int]) -> int:
    """Pixels of a colour, or nearly."""
    return int((np.abs(picture.astype(int) - colour).max(axis=2) < 60).sum())


def difference_panel(file: Path) -> npt.NDArray[np.uint8]:
    """The last of the three pictures, without the words above and below."""
    page = np.asarray(Image.open(file).convert("RGB"))
    return page[80:440, 2 * page.shape[1] // 3 + 10 :]


def test_a_picture_shows_what_only_one_side_has(tmp_path: Path) -> None:
    (file,) = seen(
        replace(FOUND, masks=(mask(10, 10, 50, 60), mask(20, 80, 80, 150), mask(70, 20, 110, 50)))
    ).write(tmp_path)
    panel = difference_panel(file)
    # 10 rows of 60 pixels are eager's, 60 of 10 the archive's, at 3.5 times their size.
    assert of_colour(panel, EAGER) > 3000
    assert of_colour(panel, ARCHIVE) > 3000
    (equal,) = seen(moved("scores", 0, -0.25)).write(tmp_path / "scores")
    assert of_colour(difference_panel(equal), EAGER) < 100


def test_a_picture_shows_where_labels_differ(tmp_path: Path) -> None:
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    other = labels.copy()
    other[60:63, 100:103] = 1
    (file,) = seen(answer(sem_seg=other), answer(sem_seg=labels)).write(tmp_path)
    assert of_colour(difference_panel(file), BOTH) > 50


def test_a_single_pixel_of_a_large_image_is_not_lost() -> None:
    alone = np.zeros((3000, 4000), np.bool_)
    alone[1234, 2345] = True
    assert Window.whole(4000, 3000, 560).any_of(alone).sum() >= 1


def test_the_worst_comes_first_and_what_agrees_is_left_out(tmp_path: Path) -> None:
    gallery = Gallery(LEGEND, TORCHSCRIPT_BOUNDS, 2)
    show(gallery, "equal", FOUND)
    show(gallery, "little", moved("boxes", 0, 0.5))
    show(gallery, "much", without(0))
    show(gallery, "some/thing odd", moved("boxes", 0, 5))
    files = [each.name for each in gallery.write(tmp_path)]
    assert files == ["01_much.png", "02_some_thing_odd.png"]
    assert len(gallery.seen) == 4


def test_what_is_within_bounds_is_drawn_on_request_only(tmp_path: Path) -> None:
    gallery = seen(moved("boxes", 0, 0.001))
    assert gallery.write(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()
    (file,) = gallery.write(tmp_path, within=True)
    assert file.is_file()


@pytest.mark.parametrize(
    "outputs",
    [
        answer(instances=replace(FOUND, masks=None)),
        answer(proposals=Proposals(FOUND.boxes, np.array([5, 4, 3], np.float32))),
    ],
)
def test_answers_of_every_kind_are_drawn(outputs: Outputs, tmp_path: Path) -> None:
    if outputs.instances is not None:
        other = replace(outputs, instances=replace(outputs.instances, scores=FOUND.scores - 0.1))
    else:
        other = answer(proposals=Proposals(FOUND.boxes + 3, np.array([5, 4, 3], np.float32)))
    (file,) = seen(other, outputs).write(tmp_path)
    assert Image.open(file).width > 1000


def test_segments_of_things_follow_their_instances() -> None:
    """A part of the image in which the first thing does not lie."""
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    labels[:, 80:] = 2
    things = (
        Segment(1, 0, True, 0, 0.9, 0),
        Segment(2, 1, True, 9600, 0.8, 1),
        Segment(3, 0, False, 0, None, None),
    )
    whole = answer(instances=FOUND, panoptic_seg=PanopticSeg(labels, things))
    view = Window(80, 0, 80, 120, (160, 240)).outputs(whole, [1])
    assert view.instances is not None
    assert view.panoptic_seg is not None
    assert view.instances.boxes.tolist() == [[0, 40, 120, 180]]
    assert [(each.id, each.instance_id) for each in view.panoptic_seg.segments] == [
        (2, 0),
        (3, None),
    ]
    assert Window(80, 0, 80, 120, (160, 240)).outputs(whole, []).instances is None


def test_an_error_says_where_its_pictures_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    failures = Failures()
    show(failures, "photo", without(0))
    said = failures.sentence(LEGEND, TORCHSCRIPT_BOUNDS)
    (folder,) = tmp_path.iterdir()
    assert said == f" Pictures of where they differ, the worst first, are in {folder}"
    assert [each.name for each in folder.iterdir()] == ["01_photo.png"]


def test_a_picture_that_cannot_be_drawn_does_not_hide_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "is not there"))
    failures = Failures()
    show(failures, "photo", without(0))
    said = failures.sentence(LEGEND, TORCHSCRIPT_BOUNDS)
    assert said.startswith(" No picture of it could be drawn (FileNotFoundError")
