"""Answers of Caffe2 itself to the images of a subject, as the records that are compared.

Caffe2 runs elsewhere (real_caffe2.py). So what our reader would give to the network is written
down, Caffe2 answers it, and the reader goes on with that answer: boxes, masks and all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.caffe2_evidence.environment import run_steps
from benchmarks.caffe2_evidence.subjects import Subject
from d2serve.export.proof.caffe2_reference import Caffe2Reference
from d2serve.export.reading.image_files import Pixels
from d2serve.handlers.caffe2 import Caffe2Model
from d2serve.handlers.netdef.detection import DetectionNetwork
from d2serve.handlers.netdef.network import Network
from d2serve.handlers.outputs.records import Outputs

Blobs = dict[str, Tensor]


class _Stopped(Exception):
    """Caffe2 stopped at this image."""


class _Network:
    """Stands for a network: keeps what it is given, or answers what Caffe2 did."""

    def __init__(self, real: Network, answers: Mapping[str, Any] | None) -> None:
        self._real = real
        self._answers = answers
        self.outputs = real.outputs
        self.given: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []

    def run(self, inputs: Sequence[Tensor]) -> Blobs:
        """As ``Network.run``."""
        number = len(self.given)
        data, im_info = (value.numpy() for value in inputs)
        self.given.append((data, im_info))
        if self._answers is None:
            return self._real.run(inputs)
        if f"{number}/{self.outputs[0]}" not in self._answers:
            raise _Stopped
        return {name: torch.from_numpy(self._answers[f"{number}/{name}"]) for name in self.outputs}


def of_interpreter(subject: Subject, images: Sequence[Pixels]) -> list[Outputs]:
    """What our reader answers."""
    reference = _reader(subject, DetectionNetwork.load(subject.files))
    return [reference.answer(image) for image in images]


@dataclass(frozen=True)
class Way:
    """How an image and its size are given to a network."""

    zeros: bool
    """Whether images are padded with zeros, not with the mean."""
    scale: bool
    """Whether the scale by which they were resized is told, not 1."""

    def prepared(
        self, image: Pixels, data: npt.NDArray[np.float32], im_info: npt.NDArray[np.float32]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """What the network gets for what our reader would give it."""
        height, width = (int(side) for side in im_info[0, :2])
        data, im_info = data.copy(), im_info.copy()
        if self.zeros:
            data[:, :, height:] = 0
            data[:, :, :, width:] = 0
        if self.scale:
            im_info[0, 2] = image.shape[0] / height
        return {"data": data, "im_info": im_info}


OURS, ZEROS, SCALE, UPSTREAMS = (
    Way(zeros=False, scale=False),
    Way(zeros=True, scale=False),
    Way(zeros=False, scale=True),
    Way(zeros=True, scale=True),
)
"""Ours, the two that upstream's wrapper has otherwise, and both, which is its own."""
WAYS = (OURS, ZEROS, SCALE, UPSTREAMS)


def of_caffe2(
    subject: Subject, images: Sequence[Pixels], python: Path, folder: Path
) -> dict[Way, list[Outputs | None]]:
    """What Caffe2 itself answers; None where it stops at an image.

    Args:
        subject: whose files are run.
        images: in RGB order.
        python: of the legacy environment.
        folder: an empty one.
    """
    asked, reader = _with(subject, None)
    for image in images:
        reader.answer(image)
    steps = []
    for number, way in enumerate(WAYS):
        inputs, outputs = folder / f"inputs{number}.npz", folder / f"outputs{number}.npz"
        arrays = {
            f"{index}/{name}": value
            for index, (image, given) in enumerate(zip(images, asked.given))
            for name, value in way.prepared(image, *given).items()
        }
        np.savez(inputs, **arrays)  # type: ignore[arg-type]
        steps.append(
            {"do": "net", "files": str(subject.files), "inputs": str(inputs), "to": str(outputs)}
        )
    run_steps(python, steps)
    found = {}
    for way, step in zip(WAYS, steps):
        with np.load(step["to"]) as answers:
            _asked, reader = _with(subject, dict(answers))
            found[way] = [_answer(reader, image) for image in images]
    return found


def _answer(reader: Caffe2Reference, image: Pixels) -> Outputs | None:
    try:
        return reader.answer(image)
    except _Stopped:
        return None


def _reader(subject: Subject, network: DetectionNetwork) -> Caffe2Reference:
    image_format = "RGB" if subject.rgb else "BGR"
    model = Caffe2Model(network)
    return Caffe2Reference(model, image_format, subject.min_size, subject.max_size)


def _with(subject: Subject, answers: Mapping[str, Any] | None) -> tuple[_Network, Caffe2Reference]:
    network: Any = DetectionNetwork.load(subject.files)
    network.network = _Network(network.network, answers)
    return network.network, _reader(subject, network)
