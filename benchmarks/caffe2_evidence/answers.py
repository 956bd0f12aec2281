"""Answers of Caffe2 itself to the images of a subject, as the records that are compared.

Caffe2 runs elsewhere (real_caffe2.py). So what our reader would give to the network is written
down, Caffe2 answers it, and the reader goes on with that answer: boxes, masks and all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from d2serve.handlers.netdef.detection import DetectionNetwork
from d2serve.handlers.netdef.network import Network
from d2serve.handlers.outputs.records import Outputs

Blobs = dict[str, Tensor]


class _Network:
    """Stands for a network: keeps what it is given, or answers what Caffe2 did."""

    def __init__(self, real: Network, prepare: Any, answers: Mapping[str, Any] | None) -> None:
        self._real = real
        self._prepare = prepare
        self._answers = answers
        self.outputs = real.outputs
        self.given: list[dict[str, npt.NDArray[np.float32]]] = []

    def run(self, inputs: Sequence[Tensor]) -> Blobs:
        """As ``Network.run``."""
        number = len(self.given)
        data, im_info = (value.numpy() for value in inputs)
        self.given.append(self._prepare(number, data, im_info))
        if self._answers is None:
            return self._real.run(inputs)
        return {name: torch.from_numpy(self._answers[f"{number}/{name}"]) for name in self.outputs}


def of_interpreter(subject: Subject, images: Sequence[Pixels]) -> list[Outputs]:
    """What our reader answers."""
    reference = _reader(subject)
    return [reference.answer(image) for image in images]


def of_caffe2(
    subject: Subject,
    images: Sequence[Pixels],
    python: Path,
    folder: Path,
    *,
    zeros: bool = False,
    scale: bool = False,
) -> list[Outputs]:
    """What Caffe2 itself answers to what our reader gives it.

    Args:
        subject: whose files are run.
        images: in RGB order.
        python: of the legacy environment.
        folder: an empty one.
        zeros: pad images with zeros, as upstream's wrapper does.
        scale: tell how images were resized, as upstream's wrapper does.
    """

    def prepare(
        number: int, data: npt.NDArray[np.float32], im_info: npt.NDArray[np.float32]
    ) -> dict[str, npt.NDArray[np.float32]]:
        height, width = (int(side) for side in im_info[0, :2])
        if zeros:
            data = data.copy()
            data[:, :, height:] = 0
            data[:, :, :, width:] = 0
        if scale:
            im_info = im_info.copy()
            im_info[0, 2] = images[number].shape[0] / height
        return {"data": data, "im_info": im_info}

    asked, reader = _with(subject, prepare, None)
    for image in images:
        reader.answer(image)
    inputs, outputs = folder / "inputs.npz", folder / "outputs.npz"
    arrays = {f"{i}/{k}": v for i, each in enumerate(asked.given) for k, v in each.items()}
    np.savez(inputs, **arrays)  # type: ignore[arg-type]
    step = {"do": "net", "files": str(subject.files), "inputs": str(inputs), "to": str(outputs)}
    run_steps(python, [step])
    with np.load(outputs) as answers:
        _asked, reader = _with(subject, prepare, dict(answers))
        return [reader.answer(image) for image in images]


def _reader(subject: Subject) -> Caffe2Reference:
    image_format = "RGB" if subject.rgb else "BGR"
    return Caffe2Reference(subject.files, image_format, subject.min_size, subject.max_size)


def _with(
    subject: Subject, prepare: Any, answers: Mapping[str, Any] | None
) -> tuple[_Network, Caffe2Reference]:
    reader = _reader(subject)
    network: Any = DetectionNetwork.load(subject.files)
    network.network = _Network(network.network, prepare, answers)
    reader.model = type(reader.model)(network)
    return network.network, reader
