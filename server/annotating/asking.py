"""The model that a tool asks: an archive in this process, or one that a server serves.

    with open_model("shapes.mar") as model:
        prediction = model.predict("photo.jpg")

The answers are the client's ``Prediction`` either way, and what the model says of itself is its
metadata either way, so that a tool's adapter knows of no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import httpx
import numpy as np
import orjson
from PIL import Image, ImageOps

from d2serve.client.connection.http import accepted, extensions, httpx_options, unavailable_error
from d2serve.client.connection.management_address import management_address
from d2serve.client.connection.settings import Connection, ConnectionSettings
from d2serve.client.errors import InvalidInput, MalformedReply
from d2serve.client.management import ManagementClient
from d2serve.client.predict.http_client import D2ServeClient
from d2serve.client.predict.image_input import ImageInput
from d2serve.client.predict.in_process import InProcessClient
from d2serve.client.results.prediction import Prediction
from d2serve.handlers.bundle import read_version
from d2serve.handlers.oip.metadata import describe
from d2serve.handlers.spec.output_names import XYWHA_ABS

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from d2serve.client.predict.options import PredictOptions

_HIDDEN_STUFF = "things"
"""detectron2's name of the class that Panoptic FPN's semantic head has for all instances."""
_NO_SUCH_PATH = (404, 405, 501)
"""What TorchServe answers to a question for metadata."""


@dataclass(frozen=True)
class About:
    """What a model says of itself."""

    name: str
    version: str
    class_names: tuple[str, ...]
    """Of instances; empty where it has none."""
    stuff_class_names: tuple[str, ...]
    """Of the labels of ``sem_seg``, in order; empty where it has none."""
    outputs: frozenset[str]
    """Names of the Open Inference Protocol: ``boxes``, ``masks``, ``keypoints``, ``sem_seg``…"""
    has_rotated_boxes: bool
    most_image_bytes: int
    """Of an image file."""

    @staticmethod
    def parse(metadata: Any) -> About:
        """Of the metadata that a model made by d2serve answers.

        Raises:
            MalformedReply: they are those of another maker's model.
        """
        try:
            return About(
                name=str(metadata["name"]),
                version=str(metadata["versions"][0]),
                # TorchServe leaves out what is null.
                class_names=tuple(metadata.get("class_names") or ()),
                stuff_class_names=tuple(metadata.get("stuff_class_names") or ()),
                outputs=frozenset(each["name"] for each in metadata["outputs"]),
                has_rotated_boxes=metadata["box_mode"] == XYWHA_ABS,
                most_image_bytes=int(metadata["limits"]["max_image_bytes"]),
            )
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise MalformedReply(
                f"The model's metadata are {str(metadata)[:200]!r}, expected those of an archive "
                f"made by `d2serve export` ({type(error).__name__}: {error})."
            ) from error

    @property
    def has_areas(self) -> bool:
        """Whether it says of each pixel what it is, rather than of objects where they are."""
        return "sem_seg" in self.outputs or "panoptic_seg" in self.outputs

    def names(self) -> tuple[str, ...]:
        """All that something found may be called, each once."""
        stuff = self.stuff_class_names
        if "panoptic_seg" in self.outputs:
            stuff = tuple(name for name in stuff if name != _HIDDEN_STUFF)
        return tuple(dict.fromkeys((*self.class_names, *stuff)))

    def require_names(self) -> tuple[str, ...]:
        """The same, one at least.

        Raises:
            InvalidInput: the archive has none, or finds nothing that has a class.
        """
        if not ({"boxes", "sem_seg", "panoptic_seg"} & self.outputs):
            raise InvalidInput(
                f"The model {self.name} answers {', '.join(sorted(self.outputs))}, expected "
                "instances or the class of each pixel: what it finds has no class, and labels are "
                "classes."
            )
        names = self.names()
        if not names:
            raise InvalidInput(
                f"The archive of {self.name} has no class names, which become the labels. Export "
                "the model again with --class-names (--stuff-class-names for a semantic head)."
            )
        return names


class Model(Protocol):
    """What a tool's adapter asks. Any number of threads may ask it."""

    @property
    def about(self) -> About: ...

    def predict(self, image: ImageInput, **options: Unpack[PredictOptions]) -> Prediction:
        """As BlockingClient.predict; arrays are in the order RGB."""

    def close(self) -> None: ...


def open_model(
    archive: str | Path | None = None,
    *,
    address: str | None = None,
    model: str | None = None,
    version: str | None = None,
    **settings: Unpack[ConnectionSettings],
) -> Model:
    """Load an archive into this process, or reach the server that serves it.

    Args:
        archive: a .mar file, or the folder that one was extracted to; or
        address: of a server's inference API, with
        model, version: as which it serves the archive. None is its default version.
        **settings: how to reach the server: key_file, token, ca_file…

    Raises:
        InvalidInput: neither an archive nor an address is given, or both.
        ClientError: the server cannot be reached, or does not serve the model.
        LoadError: the archive cannot be served here; the message says why.
    """
    if (archive is None) == (address is None):
        raise InvalidInput(
            f"Got archive={archive!r} and address={address!r}, expected one of them: a .mar file "
            "to load into this process, or the address of a server that serves it."
        )
    if archive is not None:
        if model is not None or version is not None or settings:
            raise InvalidInput(
                "Got an archive, and with it what only a server is asked with (model, version, "
                "key_file, token…). Leave them out, or give address in the place of archive."
            )
        return _InProcess(Path(archive))
    if model is None:
        raise InvalidInput(f"Got the address {address}, expected model with it: its name there.")
    return _Served(str(address), model, version, settings)


class _InProcess:
    """An archive in this process."""

    def __init__(self, archive: Path) -> None:
        self._client = InProcessClient(archive)
        spec = self._client.spec
        self.about = About.parse(orjson.loads(describe(spec, spec.name, read_version(archive))))

    def predict(self, image: ImageInput, **options: Unpack[PredictOptions]) -> Prediction:
        if isinstance(image, Image.Image) and image.mode == "RGB":
            image = np.asarray(ImageOps.exif_transpose(image))  # nothing has to travel
        return self._client.predict(image, array_format="RGB", **options)

    def close(self) -> None:
        self._client.close()


class _Served:
    """A model behind an address."""

    def __init__(
        self, address: str, model: str, version: str | None, settings: ConnectionSettings
    ) -> None:
        self._name = model, version
        self._client = D2ServeClient(address, **settings)
        self.about = About.parse(_metadata(address, model, version, settings))

    def predict(self, image: ImageInput, **options: Unpack[PredictOptions]) -> Prediction:
        name, version = self._name
        return self._client.predict(name, image, version=version, array_format="RGB", **options)

    def close(self) -> None:
        self._client.close()


def _metadata(address: str, model: str, version: str | None, settings: ConnectionSettings) -> Any:
    """What a served model says of itself.

    Servers of the Open Inference Protocol say it at the same address. TorchServe says it at its
    management address alone, which is known where its key file lies with its configuration.
    """
    connection = Connection("inference", address, **settings)
    path = f"/v2/models/{quote(model, safe='')}"
    path += "" if version is None else f"/versions/{quote(version, safe='')}"
    try:
        with httpx.Client(**httpx_options(connection)) as client:
            headers = connection.headers()
            response = client.get(path, headers=headers, extensions=extensions(connection))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise unavailable_error(connection, error) from error
    if response.status_code not in _NO_SUCH_PATH:
        return _object(accepted(response, connection))
    with ManagementClient(management_address(connection), **settings) as management:
        return management.metadata(model, version)


def _object(response: httpx.Response) -> Mapping[str, Any] | None:
    try:
        found = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
