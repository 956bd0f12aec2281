"""Runs Caffe2's networks, which Caffe2 itself does no more, on torch.

A program is two files: ``model.pb``, the network, and ``model_init.pb``, its weights. What they
mean, and that the answer is detectron2's, is the matter of handlers/netdef/.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from d2serve.handlers.errors import LoadError
from d2serve.handlers.netdef.detection import DetectionNetwork
from d2serve.handlers.runtimes.details import Details
from d2serve.handlers.runtimes.raw_outputs import Float32, RawOutputs, Size
from d2serve.handlers.runtimes.torch_threads import TorchThreads
from d2serve.handlers.spec.model_spec import ModelSpec


class Caffe2Runtime:
    """A network on the CPU."""

    on_gpu = False

    def __init__(self, network: DetectionNetwork, spec: ModelSpec, threads: int) -> None:
        self._network = network
        self._outputs = spec.outputs
        self._threads = TorchThreads(threads)

    def set_threads(self, threads: int) -> None:
        """Use this many threads within an operator."""
        self._threads = TorchThreads(threads)

    def run(
        self,
        images: Sequence[Float32],
        sizes: Sequence[Size] = (),  # noqa: ARG002 (a network holds no postprocessing)
        details: Sequence[Details] = (),  # noqa: ARG002 (and makes all masks)
    ) -> list[RawOutputs]:
        """See ``Runtime.run``; one image after the other."""
        self._threads.use()
        answers = [self._network.answer(torch.from_numpy(image)) for image in images]
        return [{name: each[name].numpy() for name in self._outputs} for each in answers]


def load(program: Path, spec: ModelSpec, device: str, threads: int) -> Caffe2Runtime:
    """Load a network: ``model.pb``, with its ``model_init.pb`` beside it.

    Raises:
        LoadError: a GPU is asked for, a file is damaged, the network has an operator that is not
            run here, or it does not answer what its spec says.
    """
    if device != "cpu":
        raise LoadError(
            f"Asked to run on {device}, but Caffe2's networks run on the CPU. "
            "Start TorchServe without GPUs (number_of_gpu=0), or export with --format torchscript."
        )
    network = DetectionNetwork.load(program.parent)
    missing = [name for name in spec.outputs if name not in network.outputs]
    if missing:
        raise LoadError(
            f"{program.name} is not the program that its spec describes: it answers "
            f"{', '.join(network.outputs)}, without {missing[0]}. Export the model again."
        )
    return Caffe2Runtime(network, spec, threads)
