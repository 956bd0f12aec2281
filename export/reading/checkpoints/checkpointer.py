"""detectron2's checkpointer, which here reads safely and keeps what did not fit.

DetectionCheckpointer (detectron2/checkpoint/detection_checkpoint.py) unpickles ``.pkl`` and
``.pyth`` files without a check, and older versions every other file too. It only warns when
weights do not fit a model, which then answers from random layers. Here all files are read in one
place, ``unpickling``, and misfits are kept for whoever loads. Matching names of other libraries to
detectron2's stays upstream's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from d2serve.export.errors import WeightsError
from d2serve.export.reading.checkpoints.addresses import Address
from d2serve.export.reading.checkpoints.layouts import taken_from
from d2serve.export.reading.checkpoints.prefixes import fitted
from d2serve.export.reading.checkpoints.unpickling import read_checkpoint
from d2serve.export.reading.checkpoints.values import unusable
from d2serve.export.reading.checkpoints.versions import with_versions

_MATCHING = "matching_heuristics"
_MODEL = "model"


class StrictCheckpointer(DetectionCheckpointer):  # type: ignore[misc]  # detectron2 is untyped
    """DetectionCheckpointer that runs no code of a file and keeps what does not fit a model."""

    def __init__(self, model: nn.Module, *, trusted: bool, key: str | None = None) -> None:
        """Load into a model.

        Args:
            model: to load into.
            trusted: as for ``unpickling.read_checkpoint``.
            key: where the tensors stand in the file; None finds it.
        """
        super().__init__(model)
        self._trusted, self._key = trusted, key
        self._matching = False
        self.misfits: list[str] = []
        """After ``load``: each tensor that is missing or of another shape, in words."""
        self.unusable: list[str] = []
        """After ``load``: each tensor whose values are of no use, in words."""
        self.file = Path()
        """After ``load``: the file that was read, which may have been fetched."""
        self.notes: tuple[str, ...] = ()
        """After ``load``: which weights of the file were taken, where there was a choice."""
        self.beside: Mapping[str, Any] = {}
        """After ``load``: what the file holds beside its tensors."""
        self.key = ""
        """After ``load``: where they stand in it, where detectron2 would not look."""

    def load(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """As upstream's, but that an address keeps what its server is asked for."""
        address = Address.of(path)
        self._matching = address.matching
        # Not DetectionCheckpointer's own, which drops whatever follows a "?" of a name.
        return super(DetectionCheckpointer, self).load(address.fetched(), *args, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        """As upstream's: a dict with ``"model"``, and ``"matching_heuristics"`` where names are
        another library's."""
        self.file = Path(filename)
        content = read_checkpoint(filename, trusted=self._trusted)
        if isinstance(content, nn.Module):
            content = {_MODEL: content}
        content = _dict(content, filename)
        name = filename.partition("?")[0]
        if name.endswith(".pyth"):
            return _of_pycls(content, filename)
        if name.endswith(".pkl") and self._key is None and self._is_of_a_zoo(content):
            return _of_a_pickle(content)
        if self._matching:  # its names are matched by their endings
            loaded = content if _MODEL in content else {_MODEL: content}
            return {**loaded, _MODEL: _dict(loaded[_MODEL], filename), _MATCHING: True}
        return self._of_layouts(content, filename)

    def _is_of_a_zoo(self, content: dict[str, Any]) -> bool:
        """Whether detectron2's rules for the pickles of model zoos are meant."""
        if _MODEL in content:
            return "__author__" in content
        arrays = {name: each for name, each in content.items() if hasattr(each, "shape")}
        names = self.model.state_dict().keys()
        return "blobs" in content or (
            bool(arrays) and fitted(arrays, names).found * 2 <= len(names)
        )

    def _of_layouts(self, content: dict[str, Any], filename: str) -> dict[str, Any]:
        if _MODEL in content and not isinstance(content[_MODEL], nn.Module) and self._key is None:
            _dict(content[_MODEL], f"the model of {filename}")
        layout = taken_from(content, self.model.state_dict().keys(), self._key, filename)
        self.notes, self.beside = layout.notes, layout.beside
        self.key = "" if layout.key == _MODEL else layout.key
        rest = content if layout.key == _MODEL else layout.beside
        return {**rest, _MODEL: with_versions(layout.tensors, content, layout.key)}

    def _load_model(self, checkpoint: Any) -> Any:
        tensors = checkpoint[_MODEL]
        incompatible = super()._load_model(checkpoint)
        self.unusable = list(unusable(tensors, self.model))
        return incompatible

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        # A tensor of a wrong shape is not loaded, so it is listed as missing as well.
        wrong = {key for key, _got, _expected in incompatible.incorrect_shapes}
        self.misfits = [
            f"{key} is {tuple(got)}, expected {tuple(expected)}"
            for key, got, expected in incompatible.incorrect_shapes
        ] + [f"{key} is missing" for key in incompatible.missing_keys if key not in wrong]
        # detectron2 writes what it did not load into its log, in colours and line by line.
        left = incompatible.unexpected_keys
        if left:
            shown = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
            self.notes += (
                f"{len(left)} tensors of {self.file} are of no part of the config's model, and "
                f"were left out: {shown}",
            )


def _of_a_pickle(content: dict[str, Any]) -> dict[str, Any]:
    if _MODEL in content:  # of detectron2's model zoo
        _dict(content[_MODEL], "the model of a pickle")
        return content
    # Of Detectron or Caffe2: detection models have "blobs", ImageNet models have not.
    blobs = content.get("blobs", content)
    arrays = {name: array for name, array in blobs.items() if not name.endswith("_momentum")}
    return {_MODEL: arrays, "__author__": "Caffe2", _MATCHING: True}


def _of_pycls(content: dict[str, Any], filename: str) -> dict[str, Any]:
    if "model_state" not in content:
        raise WeightsError(
            f"{filename} ends in .pyth, as checkpoints of pycls do, expected 'model_state' in it, "
            f"got: {', '.join(map(str, content)) or 'nothing'}. If it is detectron2's, let its "
            "name end in .pth."
        )
    state = _dict(content["model_state"], f"'model_state' of {filename}")
    tensors = {k: value for k, value in state.items() if not k.endswith("num_batches_tracked")}
    return {_MODEL: tensors, "__author__": "pycls", _MATCHING: True}


def _dict(content: Any, what: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise WeightsError(
            f"{what} holds a {type(content).__name__}, expected a dict of tensors by name, as "
            "detectron2 and torch.save(model.state_dict(), ...) write it."
        )
    return content
