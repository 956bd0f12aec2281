"""DefaultPredictor's answers, computed once a model: eager detectron2 is the slow side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.data.detection_utils import read_image
from PIL import Image

from d2serve.client.results.prediction import Prediction
from d2serve.export.proof.oracle import Oracle
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.spec.bounds import Bounds
from d2serve.handlers.spec.runtimes import RUNTIMES, TORCHSCRIPT
from d2serve.server.torchserve.process import TorchServeProcess
from tests.conftest import METHODS


@dataclass(frozen=True)
class Reference:
    """What DefaultPredictor answers for a file, as read by detectron2's own read_image."""

    file: Path
    predicted: dict[str, Any]
    outputs: Outputs
    read: Callable[[Mapping[str, Any], int, int], Outputs]
    """``outputs`` of a dict of that kind, and the image's height and width."""


def reference_for(oracle: Oracle, file: Path) -> Reference:
    """Eager detectron2's answer to a file."""
    pixels = read_image(str(file), "BGR")[:, :, ::-1]
    predicted = oracle.predict(pixels)
    outputs = oracle.outputs_of(predicted, pixels.shape[0], pixels.shape[1])
    return Reference(file, predicted, outputs, oracle.outputs_of)


def bounds_of(kind: str) -> Bounds:
    """Those of a kind of archive."""
    return RUNTIMES[TORCHSCRIPT if kind in METHODS else kind].bounds


def answers(
    server: TorchServeProcess, name: str, references: Sequence[Reference]
) -> Iterator[tuple[Reference, Prediction]]:
    """Each reference with the server's answer; while one is compared, the next is computed."""
    with ThreadPoolExecutor(1) as pool:
        coming = [pool.submit(server.http.predict, name, each.file) for each in references]
        for reference, answer in zip(references, coming):
            yield reference, answer.result()


def of_many_sizes(images: Sequence[Path], count: int, sizes: int) -> list[Path]:
    """So many of the images, of at least so many sizes."""
    by_size: dict[tuple[int, int], Path] = {}
    for file in images:
        with Image.open(file) as image:
            by_size.setdefault(image.size, file)
        if len(by_size) == sizes:
            break
    assert len(by_size) == sizes, f"only {len(by_size)} sizes in {len(images)} images"
    chosen = list(by_size.values())
    rest = [file for file in images if file not in chosen]
    return chosen + rest[: count - sizes]
