"""detectron2's checkpointer, which here reads safely and keeps what did not fit.

DetectionCheckpointer (detectron2/checkpoint/detection_checkpoint.py) unpickles ``.pkl`` and
``.pyth`` files without a check, and older versions every other file too. It only warns when
weights do not fit a model, which then answers from random layers. Here all files are read in one
place, ``unpickling``, and misfits are kept for whoever loads. Fetching, and matching names of other
libraries to detectron2's, stay upstream's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from d2serve.export.errors import WeightsError
from d2serve.export.reading.name_sources import FoundNames, of_checkpoint
from d2serve.export.reading.unpickling import read_checkpoint

_MATCHING = "matching_heuristics"


class StrictCheckpointer(DetectionCheckpointer):  # type: ignore[misc]  # detectron2 is untyped
    """DetectionCheckpointer that runs no code of a file and keeps what does not fit a model."""

    def __init__(self, model: nn.Module, *, trusted: bool) -> None:
        """Load into a model; ``trusted`` as for ``unpickling.read_checkpoint``."""
        super().__init__(model)
        self._trusted = trusted
        self.misfits: list[str] = []
        """After ``load``: each tensor that is missing or of another shape, in words."""
        self.file = Path()
        """After ``load``: the file that was read, which may have been fetched."""
        self.class_names: FoundNames | None = None
        """After ``load``: what the file calls the classes, if it does."""

    def _load_file(self, filename: str) -> dict[str, Any]:
        """As upstream's: a dict with ``"model"``, and ``"matching_heuristics"`` where names are
        another library's."""
        self.file = Path(filename)
        content = _dict(read_checkpoint(filename, trusted=self._trusted), filename)
        self.class_names = of_checkpoint(content)
        if filename.endswith(".pkl"):
            loaded = _of_a_pickle(content)
        elif filename.endswith(".pyth"):
            loaded = _of_pycls(content, filename)
        else:
            loaded = self._of_torch(content)
        _dict(loaded["model"], f"the model of {filename}")
        return loaded

    def _of_torch(self, content: dict[str, Any]) -> dict[str, Any]:
        loaded: dict[str, Any] = content if "model" in content else {"model": content}
        address = getattr(self, "_parsed_url_during_load", None)  # detectron2 0.6 has none
        query: dict[str, Any] = parse_qs(address.query) if address is not None else {}
        if query.pop(_MATCHING, None) == ["True"]:
            loaded[_MATCHING] = True
        if query:
            unknown = "&".join(f"{key}={value[0]}" for key, value in query.items())
            raise WeightsError(
                f"The address of the weights asks for ?{unknown}. detectron2 knows "
                f"?{_MATCHING}=True only: leave the rest out."
            )
        return loaded

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        # A tensor of a wrong shape is not loaded, so it is listed as missing as well.
        wrong = {key for key, _got, _expected in incompatible.incorrect_shapes}
        self.misfits = [
            f"{key} is {tuple(got)}, expected {tuple(expected)}"
            for key, got, expected in incompatible.incorrect_shapes
        ] + [f"{key} is missing" for key in incompatible.missing_keys if key not in wrong]
        if not self.misfits:  # what did not fit is raised, not logged
            super()._log_incompatible_keys(incompatible)


def _of_a_pickle(content: dict[str, Any]) -> dict[str, Any]:
    if "model" in content and "__author__" in content:  # of detectron2's model zoo
        return content
    # Of Detectron or Caffe2: detection models have "blobs", ImageNet models have not.
    blobs = content.get("blobs", content)
    arrays = {name: array for name, array in blobs.items() if not name.endswith("_momentum")}
    return {"model": arrays, "__author__": "Caffe2", _MATCHING: True}


def _of_pycls(content: dict[str, Any], filename: str) -> dict[str, Any]:
    if "model_state" not in content:
        raise WeightsError(
            f"{filename} ends in .pyth, as checkpoints of pycls do, expected 'model_state' in it, "
            f"got: {', '.join(map(str, content)) or 'nothing'}. If it is detectron2's, let its "
            "name end in .pth."
        )
    state = _dict(content["model_state"], f"'model_state' of {filename}")
    tensors = {k: value for k, value in state.items() if not k.endswith("num_batches_tracked")}
    return {"model": tensors, "__author__": "pycls", _MATCHING: True}


def _dict(content: Any, what: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise WeightsError(
            f"{what} holds a {type(content).__name__}, expected a dict of tensors by name, as "
            "detectron2 and torch.save(model.state_dict(), ...) write it."
        )
    return content
