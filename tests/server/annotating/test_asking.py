"""The model that a tool asks: the same answers from this process and from a server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d2serve.client.errors import ArchiveRefused, InvalidInput, MalformedReply, ServerUnavailable
from d2serve.handlers.service import Service
from d2serve.server.annotating.asking import About, open_model
from tests.client.answering_archives import answering_archive
from tests.handlers.http_adapter import serving


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return answering_archive(tmp_path / "shapes.mar")


def test_a_server_and_this_process_answer_the_same(archive: Path) -> None:
    own = open_model(archive)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    with serving(Service.open(archive)) as address:
        served = open_model(address=address, model="shapes", version="2.0")
        assert served.about == own.about
        for image in (pixels, Image.fromarray(pixels)):
            answers = [model.predict(image) for model in (own, served)]
            assert answers[0] == answers[1]
            assert answers[0].instances[0].score == pytest.approx(pixels.mean() / 255, abs=1e-4)
        served.close()
    own.close()


def test_what_a_model_says_of_itself(archive: Path) -> None:
    about = open_model(archive).about
    assert (about.name, about.version) == ("shapes", "2.0")
    assert about.names() == about.require_names() == ("circle", "square")
    assert {"boxes", "masks"} <= about.outputs
    assert not about.has_areas
    assert not about.has_rotated_boxes
    assert about.most_image_bytes == 33_554_432


def test_names_of_things_and_stuff_are_labels_once(archive: Path) -> None:
    about = replace(
        open_model(archive).about,
        class_names=("circle", "grass"),
        stuff_class_names=("things", "grass", "brick"),
        outputs=frozenset({"sem_seg", "panoptic_seg"}),
    )
    assert about.names() == ("circle", "grass", "brick")


def test_what_is_null_may_be_absent() -> None:
    """As TorchServe writes it."""
    metadata = {
        "name": "m",
        "versions": ["1"],
        "outputs": [{"name": "boxes"}],
        "box_mode": "XYWHA_ABS",
        "limits": {"max_image_bytes": 5},
    }
    about = About.parse(metadata)
    assert about.has_rotated_boxes
    assert about.names() == ()


def test_an_archive_without_names(tmp_path: Path) -> None:
    unnamed = open_model(answering_archive(tmp_path / "shapes.mar", class_names=None))
    with pytest.raises(InvalidInput, match="--class-names"):
        unnamed.about.require_names()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "expected one of them"),
        ({"archive": "a.mar", "address": "http://127.0.0.1:1", "model": "a"}, "one of them"),
        ({"archive": "a.mar", "model": "a"}, "what only a server is asked with"),
        ({"archive": "a.mar", "token": "t"}, "what only a server is asked with"),
        ({"address": "http://127.0.0.1:1"}, "expected model with it"),
    ],
)
def test_what_is_given_does_not_fit(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        open_model(**given)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused):
        open_model(tmp_path / "none.mar")
    with pytest.raises(ServerUnavailable):
        open_model(address="http://127.0.0.1:1", model="shapes")


def test_metadata_of_another_maker() -> None:
    metadata: object
    for metadata in (None, {}, {"name": "m", "versions": []}):
        with pytest.raises(MalformedReply, match="made by `d2serve export`"):
            About.parse(metadata)
