"""KServe's server gives TorchServe's answers, to KServe's and Triton's own clients."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.engines.kserve_running import KServe, running
from tests.engines.reference import COUNT, MODEL, Reference, without_id

CLIENTS = Path(__file__).with_name("kserve_clients.py")


@pytest.fixture(scope="module")
def server(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KServe]:
    with running(tmp_path_factory.mktemp("kserve"), reference.archive) as started:
        yield started


def numbers(values: list[Any], dtype: Any) -> list[int]:
    """Numbers as their bits."""
    array = np.array(values, dtype)
    return list(array.view(np.uint32 if dtype == np.float32 else np.int64).tolist())


@pytest.mark.parametrize(
    ("who", "way", "count"),
    [
        ("kserve", "rest-binary", COUNT),
        ("kserve", "grpc-contents", COUNT),
        ("triton", "http", COUNT),
        ("triton", "grpc", COUNT),
        ("kserve", "rest-json", 60),
        ("kserve", "grpc-raw", 60),
        ("triton", "http-aio", 60),
        ("triton", "grpc-aio", 60),
    ],
)
def test_the_own_clients_get_torchserves_answers(
    reference: Reference, server: KServe, who: str, way: str, count: int
) -> None:
    images = reference.images[:count]
    command: list[str | Path] = [
        sys.executable,
        CLIENTS,
        who,
        way,
        server.rest,
        server.grpc,
        MODEL,
        *images,
    ]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert asked.returncode == 0, asked.stderr
    answers = dict(map(json.loads, asked.stdout.splitlines()))
    assert sorted(answers) == [each.name for each in images]
    found = 0
    for name, answer in answers.items():
        assert answer["id"] == name
        expected = reference.answers[name]
        assert without_id(answer["reply"][0].encode()) == expected
        said = json.loads(expected)
        instances = said["instances"]
        found += len(instances)
        assert answer["image_size"] == [said["image"]["height"], said["image"]["width"]]
        boxes = [side for each in instances for side in each["bbox"]]
        assert numbers(answer["boxes"], np.float32) == numbers(boxes, np.float32)
        scores = [each["score"] for each in instances]
        assert numbers(answer["scores"], np.float32) == numbers(scores, np.float32)
        assert answer["classes"] == [each["category_id"] for each in instances]
        assert answer["class_names"] == [each["category_name"] for each in instances]
        assert [json.loads(each) for each in answer["masks"]] == [
            each["segmentation"] for each in instances
        ]
    assert found > count


def test_the_first_protocol_gives_the_same_replies(reference: Reference, server: KServe) -> None:
    images, path = reference.images, f"/v1/models/{MODEL}:predict"

    def asked(some: list[Path]) -> list[bytes]:
        files = [base64.b64encode(each.read_bytes()).decode() for each in some]
        answer = server.ask(path, json={"instances": [{"image": {"b64": each}} for each in files]})
        assert answer.status_code == 200, answer.text
        body = without_id(answer.content)
        assert body.startswith(b'{"predictions":[')
        return [body]

    groups = [images[i : i + 4] for i in range(0, len(images), 4)]
    with ThreadPoolExecutor(2) as pool:
        for some, (body,) in zip(groups, pool.map(asked, groups)):
            expected = b",".join(reference.answers[each.name] for each in some)
            assert body == b'{"predictions":[' + expected + b"]}"


def test_torchserves_own_paths_are_there_too(reference: Reference, server: KServe) -> None:
    for image in reference.images[:5]:
        answer = server.ask(
            f"/predictions/{MODEL}",
            content=image.read_bytes(),
            headers={"Content-Type": "image/jpeg"},
        )
        assert without_id(answer.content) == reference.answers[image.name]
