"""Where ``d2serve predict --draw`` writes: a picture for each image, a video for each video."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from d2serve.cli.predictions.inputs import Input, Video
from d2serve.client.drawing import draw
from d2serve.client.errors import InvalidInput
from d2serve.client.predict.image_input import ImageInput
from d2serve.client.results.prediction import Prediction
from d2serve.server.video.writing import SUFFIXES, VideoWriter, written_video


def is_video_file(target: Path) -> bool:
    """Whether ``--draw`` names a video, and no folder."""
    return target.suffix.lower() in SUFFIXES and not target.is_dir()


class Pictures:
    """What has been drawn and written."""

    def __init__(self, target: Path, wrote: Callable[[Path], None]) -> None:
        """
        Args:
            target: a folder; or a video, where frames of one video come.
            wrote: is told of each file that is finished.
        """
        self._target = target
        self._wrote = wrote
        self._used: dict[str, int] = {}
        self._video: Video | None = None
        self._writer: VideoWriter | None = None
        self._open = ExitStack()
        self._path = target

    def add(self, item: Input, image: ImageInput, prediction: Prediction) -> None:
        """Draw and write one.

        Raises:
            ClientError: it cannot be drawn or written, or would take the place of its image.
        """
        drawn = draw(image, prediction)
        if item.video is None or item.frame is None:
            self._save(drawn, item.name)
            return
        if item.video is not self._video:
            self._begin(item.video)
        if self._writer is not None:
            self._writer.add(np.asarray(drawn), item.frame)

    def close(self) -> None:
        """Finish what is being written."""
        self._open.close()
        if self._writer is not None:
            self._wrote(self._path)
        self._writer = None

    def _save(self, drawn: Image.Image, name: str) -> None:
        path = self._next(name, ".png")
        _refuse_its_own(path, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn.save(path)
        except OSError as error:
            reason = error.strerror or error
            raise InvalidInput(f"The picture {path} cannot be written: {reason}.") from error
        self._wrote(path)

    def _begin(self, video: Video) -> None:
        self.close()
        self._video = video
        path = self._target
        if not is_video_file(path):
            path = self._next(video.name, SUFFIXES[0])
        _refuse_its_own(path, video.name)
        self._path = path
        self._writer = self._open.enter_context(written_video(path, video.rate))

    def _next(self, name: str, suffix: str) -> Path:
        """File names for pictures: a/1.jpg and b/1.jpg of one run must not overwrite each other."""
        last = name.rpartition("::")[2].replace("\\", "/").rstrip("/").replace(":", "_")
        stem = PurePosixPath(last).stem or "image"
        self._used[stem] = self._used.get(stem, 0) + 1
        number = self._used[stem]
        return self._target / f"{stem if number == 1 else f'{stem}_{number}'}{suffix}"


def _refuse_its_own(path: Path, name: str) -> None:
    if path.exists() and Path(name).exists() and path.samefile(name):
        raise InvalidInput(
            f"The picture would take the place of the image itself, {name}. Draw to another folder."
        )
