"""Real worker processes are measured, and whatever stops them leaves what there is."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from d2serve.server.measuring.images import Images, drawn_image, images_of
from d2serve.server.measuring.plan import MeasureError, Setup
from d2serve.server.measuring.pool import Pool
from d2serve.server.measuring.session import measure
from tests.handlers.samples import spec_with
from tests.server.measuring.programs import subject

CAT = Path("examples/shapes/sample.jpg")


@pytest.fixture
def images(tmp_path: Path) -> Images:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(CAT.read_bytes())
    (folder / "b.jpg").write_bytes(CAT.read_bytes())
    (folder / "no image.jpg").write_bytes(b"no image")
    copies = tmp_path / "copies"
    copies.mkdir()
    return images_of(str(folder), copies)


def program(tmp_path: Path) -> Path:
    folder = tmp_path / "program"
    folder.mkdir()
    return folder


def test_an_interrupted_run_keeps_what_was_measured(tmp_path: Path, images: Images) -> None:
    told = []

    def report(what: str, share: float) -> None:
        told.append((what, share))
        if len(told) == 2:
            raise KeyboardInterrupt

    before = set(psutil.Process().children())
    one = subject(program(tmp_path))
    measured = measure([one], [Setup(1, 2), Setup(2, 1)], images, 6.0, report)
    assert measured.interrupted
    (cell,) = measured.cells
    assert str(cell.setup) == "1 x 2"
    assert cell.rate.value > 1
    assert cell.memory_mib > 10
    assert cell.objects == 1
    assert cell.step("decode") > 0
    assert cell.step("forward") > 0
    assert [what for what, _ in told] == ["small.mar, 1 x 2", "small.mar, 2 x 1"]
    (note,) = measured.notes
    assert "no image.jpg is left out: " in note
    assert set(psutil.Process().children()) == before


def test_each_archive_is_measured_whatever_the_time(tmp_path: Path, images: Images) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
    subjects = [subject(folder, folder.name) for folder in folders]
    setups = [Setup(1, 1), Setup(1, 2)]
    measured = measure(subjects, setups, images, 0.01, lambda _what, _share: None)
    shown = [(cell.subject.name, str(cell.setup)) for cell in measured.cells]
    assert shown == [("one.mar", "1 x 1"), ("other.mar", "1 x 1")]
    assert "The time was over before 2 of 4 combinations were tried" in measured.notes[-1]


def test_a_worker_that_dies_is_named(tmp_path: Path, images: Images) -> None:
    with Pool(subject(program(tmp_path)), Setup(1, 1), images.files, 1.0) as pool:
        os.kill(pool._processes[0].pid, signal.SIGKILL)
        with pytest.raises(
            MeasureError, match=r"worker of small.mar ended with status -9 at 1 x 1"
        ):
            pool.run(0.1)


def test_images_of_which_none_can_be_answered_end_it(tmp_path: Path) -> None:
    file = tmp_path / "no image"
    file.write_bytes(b"no image")
    with pytest.raises(MeasureError, match=r"small.mar refuses every image: .*"):
        Pool(subject(program(tmp_path)), Setup(1, 1), [file], 1.0)


def test_no_images_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="has no images"):
        images_of(str(tmp_path), tmp_path)


def test_a_picture_has_the_models_own_size(tmp_path: Path) -> None:
    images = drawn_image([spec_with(min_size_test=240, max_size_test=300)], tmp_path)
    assert images.drawn
    assert images.described == "one drawn picture, 300 x 225"
    bands = [spec_with(image_format="bands", channels=5), spec_with()]
    with pytest.raises(MeasureError, match=r"5 channels .* and 3 channels"):
        drawn_image(bands, tmp_path)
    (file,) = drawn_image(bands[:1], tmp_path).files
    assert file.suffix == ".npy"
