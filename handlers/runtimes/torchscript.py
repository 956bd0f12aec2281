"""Runs traced and scripted programs on torch, on a CPU or GPU.

A traced program takes the tensors that ``spec.inputs`` names, of one image, and gives a tuple in
the order of ``spec.outputs``; a scripted one takes ``List[Dict[str, Tensor]]`` and gives the same.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.jit import optimized_execution

from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.convolution import winograd_is_wanted
from d2serve.handlers.runtimes.details import Details, inputs_of
from d2serve.handlers.runtimes.raw_outputs import Float32, RawOutputs, Size
from d2serve.handlers.runtimes.torch_threads import TorchThreads
from d2serve.handlers.runtimes.torchvision_operators import register
from d2serve.handlers.spec.convolution import AUTO
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.runtimes import SCRIPTING

if TYPE_CHECKING:
    from d2serve.kernels.torchscript import Replaced

_log = logging.getLogger(__name__)

register()


class TorchScriptRuntime:
    """A TorchScript program on one device."""

    def __init__(
        self,
        program: torch.jit.ScriptModule,
        spec: ModelSpec,
        device: str,
        threads: int,
        replaced: Replaced | None = None,
    ) -> None:
        self._program = program
        self._replaced = replaced  # the program uses them as long as they are kept
        self._spec = spec
        self._device = torch.device(device)
        self._threads = TorchThreads(threads)

    @property
    def on_gpu(self) -> bool:
        """Whether the program runs on a GPU."""
        return self._device.type == "cuda"

    def set_threads(self, threads: int) -> None:
        """Use this many threads within an operator."""
        self._threads = TorchThreads(threads)

    def run(
        self,
        images: Sequence[Float32],
        sizes: Sequence[Size] = (),
        details: Sequence[Details] = (),
    ) -> list[RawOutputs]:
        """See ``Runtime.run``."""
        self._threads.use()
        given = [
            tuple(self._tensor(each) for each in inputs)
            for inputs in inputs_of(self._spec, images, sizes, details)
        ]
        # TorchScript's optimiser specialises for input shapes, and images nearly always bring a new
        # one: seconds are spent on the first calls, and nothing is gained where convolutions rule.
        with torch.inference_mode(), optimized_execution(False):
            if self._spec.method == SCRIPTING:
                answers = self._program([dict(zip(self._spec.inputs, each)) for each in given])
                named = [{name: each[name] for name in self._spec.outputs} for each in answers]
            else:
                named = [dict(zip(self._spec.outputs, self._program(*each))) for each in given]
        return [{name: t.cpu().numpy() for name, t in outputs.items()} for outputs in named]

    def _tensor(self, given: npt.NDArray[np.generic]) -> torch.Tensor:
        # A scalar is read as a number: on the CPU no call waits for that.
        return torch.from_numpy(given).to("cpu" if given.ndim == 0 else self._device)


def load(
    program: Path, spec: ModelSpec, device: str, threads: int, convolution: str = AUTO
) -> TorchScriptRuntime:
    """Load a TorchScript program.

    Raises:
        LoadError: the device is not there, this torch cannot read the program, or Winograd's
            convolutions are asked for by name and cannot be had.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise LoadError(
            f"Asked to run on {device}, but torch {torch.__version__} sees no CUDA device. "
            "Install a CUDA build of torch and the driver, or start TorchServe without GPUs."
        )
    exported_with = spec.versions.get("torch", "an unknown version")
    major = torch.__version__.split(".")[0]
    if exported_with.split(".")[0] != major and "torch" in spec.versions:
        raise LoadError(
            f"{program.name} was exported with torch {exported_with}, this server has torch "
            f"{torch.__version__}: TorchScript is only read across minor versions. Serve with "
            "that version, or export again with this one."
        )
    try:
        module = torch.jit.load(str(program), map_location=device)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise LoadError(
            f"torch {torch.__version__} cannot load {program.name}, which was exported with torch "
            f"{exported_with} ({' '.join(str(error).split())[:300]}). "
            "Serve with that version, or export again with this one."
        ) from error
    replaced = None
    if winograd_is_wanted(spec, convolution, device):
        from d2serve.kernels.torchscript import replace_convolutions

        replaced = replace_convolutions(module, program.parent)
        _log.info("%s runs with %s.", spec.name, replaced)
    return TorchScriptRuntime(module, spec, device, threads, replaced)
