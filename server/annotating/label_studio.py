"""A model as Label Studio's ML backend: what it answers to each question, without the HTTP."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from d2serve.client.errors import ClientError, InvalidInput
from d2serve.server.annotating.asking import Model
from d2serve.server.annotating.label_config import (
    BRUSHES,
    KEYPOINTS,
    POLYGONS,
    Control,
    missing_labels,
    read_controls,
)
from d2serve.server.annotating.label_results import needs_masks, results_of, score_of
from d2serve.server.annotating.task_images import TaskImages

Answer = dict[str, Any]

MOST_TASKS = 1000
"""In one question."""
_NOT_SHOWN = {
    BRUSHES: "regions that may overlap, of a panoptic map too",
    POLYGONS: "outlines with holes filled, each piece of a mask a region of its own",
    KEYPOINTS: "no visibility of a keypoint, whose score is that of its region",
}
_MODELS_FOR = {BRUSHES: "masks", POLYGONS: "masks", KEYPOINTS: "keypoints"}

_log = logging.getLogger(__name__)


class LabelStudioBackend:
    """Answers the questions of Label Studio. Any number of threads may ask it."""

    def __init__(self, model: Model, images: TaskImages) -> None:
        """
        Args:
            model: who is asked.
            images: who reads the images of tasks.

        Raises:
            InvalidInput: what the model finds has no names.
        """
        self._names = model.about.require_names()
        self._model = model
        self._images = images
        self._version = f"{model.about.name}-{model.about.version}"
        self._warned: set[str] = set()

    def health(self) -> Answer:
        """That it is there; a model that cannot be loaded does not come so far."""
        return {"status": "UP", "model_class": self._model.about.name, "v2": True}

    def setup(self, body: Mapping[str, Any]) -> Answer:
        """What Label Studio asks when a project is connected, or its configuration saved.

        The host and the key that it sends are not used: they come from whoever asks.

        Raises:
            InvalidInput: the project's labels are not the model's.
        """
        config = body.get("schema")
        # Of a new project it is empty.
        if isinstance(config, str) and config.strip() not in ("", "<View></View>", "<View/>"):
            self._controls(config)
        return {"model_version": self._version}

    def predict(self, body: Mapping[str, Any]) -> Answer:
        """The predictions of tasks, in order.

        A task that fails has no regions, and its error in place of them; if all do, that is raised.

        Raises:
            InvalidInput: the question cannot be answered.
            ClientError: no task could be.
        """
        tasks, config = body.get("tasks"), body.get("label_config")
        if not isinstance(tasks, list) or not all(isinstance(each, Mapping) for each in tasks):
            raise InvalidInput(f"Got {str(tasks)[:80]!r} as tasks, expected a list of objects.")
        if len(tasks) > MOST_TASKS:
            raise InvalidInput(f"Got {len(tasks)} tasks, expected up to {MOST_TASKS}.")
        if not isinstance(config, str):
            raise InvalidInput(f"Got {config!r:.80} as label_config, expected XML.")
        controls = self._controls(config)
        results: list[Answer] = []
        errors: list[ClientError] = []
        for task in tasks:
            try:
                results.append(self._prediction(task, controls))
            except ClientError as error:
                _log.warning("d2serve: task %s: %s", task.get("id"), error)
                errors.append(error)
                failed = {"result": [], "score": 0.0, "model_version": self._version}
                results.append({**failed, "error": str(error)})
        if errors and len(errors) == len(tasks):
            raise errors[0]
        return {"results": results, "model_version": self._version}

    def _prediction(self, task: Mapping[str, Any], controls: list[Control]) -> Answer:
        data = task.get("data")
        if not isinstance(data, Mapping):
            raise InvalidInput(f"The task {task.get('id')} has no data, expected an object.")
        found: list[Answer] = []
        for key in dict.fromkeys(control.image_key for control in controls):
            of_image = [control for control in controls if control.image_key == key]
            image = self._images.read(data.get(key), task.get("id"))
            masks = "rle" if needs_masks(of_image) else "none"
            prediction = self._model.predict(image, masks=masks)
            try:
                found += results_of(prediction, of_image)
            except ValueError as error:
                raise InvalidInput(str(error)) from error
        return {"result": found, "score": score_of(found), "model_version": self._version}

    def _controls(self, config: str) -> list[Control]:
        controls = read_controls(config)
        outputs = self._model.about.outputs
        for kind in dict.fromkeys(control.kind for control in controls):
            if kind in _NOT_SHOWN:
                self._warn_once(f"{kind}: Label Studio gets {_NOT_SHOWN[kind]}.")
            needs = _MODELS_FOR.get(kind, "boxes")
            can = needs in outputs or (needs == "masks" and self._model.about.has_areas)
            if not can:
                self._warn_once(f"{kind}: the model has no {needs}, and fills none of these tags.")
        missing = missing_labels(controls, self._names)
        if missing:
            self._warn_once(
                f"There is no label for {', '.join(missing)}: what the model finds of these "
                "classes is left out."
            )
        return controls

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _log.warning("d2serve: %s", text)
