"""Answers of eager detectron2, with which every answer of an exported program is compared.

For a YAML config they are DefaultPredictor's. It takes no LazyConfig, and no format but BGR and
RGB, so there the same steps are taken with the config's own model: resize, channel order, model,
detectron2's postprocessing. Of more than four channels detectron2 resizes floats only, so that is
what it gets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.engine import DefaultPredictor
from detectron2.structures import Instances
from torch import nn

from d2serve.export.errors import EagerError, one_line
from d2serve.export.programs.torchscript_errors import where_in_user_code
from d2serve.export.proof.as_records import detections_of, panoptic_of
from d2serve.export.proof.comparing.panoptic_labels import described
from d2serve.export.reading.config import ModelConfig
from d2serve.export.reading.image_files import Pixels
from d2serve.export.reading.image_form import image_form_of
from d2serve.export.reading.own_outputs import (
    array_of,
    own_to_model,
    refuse_own_of_proposals,
    shown,
)
from d2serve.export.reading.weights import load_model, load_weights
from d2serve.export.rewrites.endings import DETECTIONS
from d2serve.export.rewrites.own_models.endings import KEYS
from d2serve.export.rewrites.registry import is_panoptic_deeplab
from d2serve.export.rewrites.stand_ins import buildable, runnable
from d2serve.handlers.outputs.records import Detections, Outputs, Proposals
from d2serve.handlers.spec.extras import IMAGE, INSTANCE
from d2serve.handlers.spec.image_form import BGR, MOST_OF_PILLOW, RGB, ImageForm


class Oracle:
    """Answers of eager detectron2: DefaultPredictor's for one image, its model's for a batch."""

    owner = "detectron2"

    def __init__(self, config: ModelConfig) -> None:
        """Build the model and load its weights, again and apart from the one that is exported.

        Raises:
            ConfigError, WeightsError: as for the export.
        """
        self._config = config
        self._predictor = None
        if config.cfg is not None and config.image_format in (BGR, RGB):
            self._predictor = _predictor(config, config.cfg)
        model = load_model(config) if self._predictor is None else self._predictor.model
        self.form = image_form_of(model, config)
        """Of the images that it takes."""
        self._model: nn.Module
        self._model, notes = runnable(model, config.device)
        if self._predictor is not None:
            self._predictor.model = self._model
        self.reference = "; ".join(("eager detectron2 on the same images", *notes))
        """What the answers are, for the record."""

    @property
    def model(self) -> nn.Module:
        """The eager model."""
        return self._model

    def predict(self, image: Pixels) -> dict[str, Any]:
        """DefaultPredictor's own dict for an image of ``form``.

        Raises:
            EagerError: detectron2 itself stops at this image.
        """
        if self._predictor is not None:
            pixels = _as_taken(image, self.form)
            if self._config.image_format == RGB:  # it turns the channels round, however many
                pixels = pixels[:, :, ::-1]
            with _running(image.shape[0], image.shape[1]):
                predicted: dict[str, Any] = self._predictor(pixels)
            return predicted
        return self._run([self.model_input(image)])[0]

    def answer(self, image: Pixels) -> Outputs:
        """DefaultPredictor's answer for an image of ``form``."""
        return self.outputs_of(self.predict(image), *image.shape[:2])

    def answer_batch(self, images: Sequence[Pixels]) -> list[Outputs]:
        """What the eager model answers to images of ``form`` given to it as one batch.

        Prepares each image as DefaultPredictor.__call__ does.
        """
        predicted = self._run([self.model_input(image) for image in images])
        return [self.outputs_of(each, *image.shape[:2]) for each, image in zip(predicted, images)]

    def outputs_of(self, predicted: Mapping[str, Any], height: int, width: int) -> Outputs:
        """The model's dict for an image of this size as the record that the handler produces."""
        if is_panoptic_deeplab(self._model):
            predicted = described(self._model, predicted, height, width)
        return as_outputs(predicted, height, width)

    def model_input(self, image: Pixels) -> dict[str, torch.Tensor | int]:
        """The dict that DefaultPredictor gives to the model for an image of ``form``."""
        config = self._config
        return prepared(image, self.form, config.min_size_test, config.max_size_test)

    def _run(self, inputs: list[dict[str, torch.Tensor | int]]) -> list[dict[str, Any]]:
        first = inputs[0]
        with torch.no_grad(), _running(int(first["height"]), int(first["width"])):
            predicted: list[dict[str, Any]] = self._model(inputs)
        return predicted


def prepared(
    image: Pixels, form: ImageForm, min_size_test: int, max_size_test: int
) -> dict[str, torch.Tensor | int]:
    """The dict that DefaultPredictor gives to a model for an image.

    Args:
        image: (height, width, channels) of ``form``.
        form: of the images that the model takes.
        min_size_test, max_size_test: as the config has them, in pixels; a minimum of 0 does not
            resize.
    """
    pixels = _as_taken(image, form)
    if min_size_test:
        resize = ResizeShortestEdge([min_size_test] * 2, max_size_test)
        pixels = resize.get_transform(pixels).apply_image(pixels)
    tensor = torch.as_tensor(pixels.astype("float32").transpose(2, 0, 1))
    return {"image": tensor, "height": image.shape[0], "width": image.shape[1]}


def _as_taken(image: Pixels, form: ImageForm) -> npt.NDArray[Any]:
    """An image with the channels in the model's order, of a type that detectron2 resizes."""
    pixels = image[:, :, ::-1] if form.image_format == BGR else image
    return pixels if form.channels <= MOST_OF_PILLOW else pixels.astype(np.float32)


@contextmanager
def _running(height: int, width: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of the model's own code: whatever it raises
        raise EagerError(
            f"Eager detectron2 itself cannot run this model on an image of {height}x{width}: "
            f"{where_in_user_code(error)}{type(error).__name__}: {one_line(error, 200)}. So there "
            "is no answer to reproduce. Run DefaultPredictor on the image, and mend the config, or "
            "give an image that the model takes: --sample-image"
        ) from error


def _predictor(config: ModelConfig, cfg: CfgNode) -> DefaultPredictor:
    """DefaultPredictor, but that weights are read as the export reads them: no code is run."""
    without_weights = cfg.clone()
    without_weights.defrost()
    without_weights.MODEL.WEIGHTS = ""
    with buildable():
        predictor = DefaultPredictor(without_weights)
    load_weights(predictor.model, config)
    return predictor


def as_outputs(predicted: Mapping[str, Any], height: int, width: int) -> Outputs:
    """detectron2's dict for one image as the record that the handler produces.

    Args:
        predicted: DefaultPredictor's.
        height, width: of the image, in pixels.
    """
    instances, sem_seg = predicted.get("instances"), predicted.get("sem_seg")
    panoptic, proposals = predicted.get("panoptic_seg"), predicted.get("proposals")
    return Outputs(
        height=height,
        width=width,
        instances=None if instances is None else as_detections(instances.to("cpu")),
        sem_seg=None if sem_seg is None else sem_seg.argmax(dim=0).cpu().numpy().astype(np.int32),
        panoptic_seg=None if panoptic is None else panoptic_of(*panoptic),
        proposals=None if proposals is None else _proposals(proposals.to("cpu")),
        extra={
            name: array_of(shown(IMAGE, name), value)
            for name, value in own_to_model(predicted, KEYS)
        },
    )


def as_detections(instances: Instances) -> Detections:
    """detectron2's postprocessed Instances as the record that the handler produces."""
    own = own_to_model(instances.get_fields(), DETECTIONS)
    extra = {name: array_of(shown(INSTANCE, name), value) for name, value in own}
    return replace(detections_of(instances), extra=extra)


def _proposals(instances: Instances) -> Proposals:
    refuse_own_of_proposals(instances.get_fields())
    return Proposals(
        boxes=instances.proposal_boxes.tensor.numpy(),
        objectness_logits=instances.objectness_logits.numpy(),
    )
