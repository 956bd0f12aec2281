"""``d2serve predict``: ask a running server about images and show what it sees."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Optional, Union

import orjson
import typer
from rich.markup import escape

from d2serve.cli.options import CaFilePath, KeyFilePath, key_file_or_here
from d2serve.cli.predictions.prediction_tables import heading, tables
from d2serve.cli.progress import console, error_console
from d2serve.client.connection.settings import ConnectionSettings
from d2serve.client.errors import (
    AuthorizationError,
    ClientError,
    HandlerFailed,
    ModelNotFound,
    RequestRejected,
    ServerUnavailable,
    StubsUnavailable,
)
from d2serve.client.predict.grpc_client import DEFAULT_GRPC_ADDRESS, D2ServeGrpcClient
from d2serve.client.predict.http_client import DEFAULT_INFERENCE_ADDRESS, D2ServeClient
from d2serve.client.results.prediction import Prediction
from d2serve.handlers.requests.options import OPTIONS, Option

_CONCERNS_EVERY_IMAGE = (AuthorizationError, ModelNotFound, ServerUnavailable, StubsUnavailable)
Client = Union[D2ServeClient, D2ServeGrpcClient]


class Protocol(str, Enum):
    """How to reach the server."""

    HTTP = "http"
    GRPC = "grpc"


class MaskFormat(str, Enum):
    """The values of the request option ``masks``."""

    RLE = "rle"
    POLYGON = "polygon"
    NONE = "none"


class SemSegFormat(str, Enum):
    """The values of the request option ``sem_seg``."""

    PNG = "png"
    RLE = "rle"


class ExtraFormat(str, Enum):
    """The values of the request option ``extra``."""

    JSON = "json"
    BASE64 = "base64"
    NONE = "none"


def _help_of(option: Option) -> str:
    """What the command line says of a request option, in the words of the server's own table."""
    if option.type is list:
        return f"{option.help} A name or id; give the option again for another. Default: all."
    values = f"{option.help} Values: {option.allowed}"
    return f"{values}." if option.choices else f"{values}; default: {option.default}."


_HELP = {option.name: _help_of(option) for option in OPTIONS}


def predict(
    name: Annotated[str, typer.Argument(help="Name of the served model.", metavar="NAME")],
    images: Annotated[list[Path], typer.Argument(help="Image files.", metavar="IMAGE")],
    protocol: Annotated[Protocol, typer.Option(help="How to reach the server.")] = Protocol.HTTP,
    address: Annotated[
        Optional[str],
        typer.Option(
            help=f"Default: {DEFAULT_INFERENCE_ADDRESS}, for gRPC {DEFAULT_GRPC_ADDRESS}. "
            "With https:// the connection is encrypted (TLS), over gRPC too."
        ),
    ] = None,
    version: Annotated[
        Optional[str], typer.Option(help="Version of the model; default: the server's default.")
    ] = None,
    draw: Annotated[
        Optional[Path], typer.Option(help="Write annotated pictures into this folder.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the server's JSON, one line per image.")
    ] = False,
    score_thresh: Annotated[Optional[float], typer.Option(help=_HELP["score_thresh"])] = None,
    max_detections: Annotated[Optional[int], typer.Option(help=_HELP["max_detections"])] = None,
    classes: Annotated[
        Optional[list[str]],
        typer.Option(help=_HELP["classes"]),
    ] = None,
    masks: Annotated[MaskFormat, typer.Option(help=_HELP["masks"])] = MaskFormat.RLE,
    sem_seg: Annotated[SemSegFormat, typer.Option(help=_HELP["sem_seg"])] = SemSegFormat.PNG,
    extra: Annotated[ExtraFormat, typer.Option(help=_HELP["extra"])] = ExtraFormat.JSON,
    token: Annotated[
        Optional[str], typer.Option(help="Inference token.", envvar="D2SERVE_TOKEN")
    ] = None,
    key_file: KeyFilePath = None,
    ca_file: CaFilePath = None,
    header: Annotated[
        Optional[list[str]],
        typer.Option(
            help="Sent with every request, as 'Name: value'; give it again for another.",
            metavar="HEADER",
        ),
    ] = None,
    allow_token_in_clear: Annotated[
        bool,
        typer.Option(
            "--allow-token-in-clear",
            help="Send the token over a network without encryption, where others can read it.",
        ),
    ] = False,
) -> None:
    """Detect objects in images with a running server."""
    failed = False
    options: dict[str, Any] = {
        "version": version,
        "score_thresh": score_thresh,
        "max_detections": max_detections,
        "classes": classes or None,
        "masks": masks.value,
        "sem_seg": sem_seg.value,
        "extra": extra.value,
    }
    pictures = _PictureNames(draw)
    try:
        settings: ConnectionSettings = {
            "token": token,
            "key_file": _key_file(token, key_file),
            "ca_file": ca_file,
            "headers": _headers(header or []),
            "allow_token_in_clear": allow_token_in_clear,
        }
        with _client(protocol, address, settings) as client:
            for image in images:
                try:
                    prediction = client.predict(name, image, **options)
                    _print(image, prediction, as_json)
                    if draw is not None:
                        _write_picture(image, prediction, pictures.next(image))
                except _CONCERNS_EVERY_IMAGE:
                    raise
                except ClientError as error:
                    failed = True
                    _print_failure(image, error, as_json)
    except ClientError as error:
        error_console.print(f"[red]Failed.[/] {escape(str(error))}", soft_wrap=True)
        failed = True
    if failed:
        raise typer.Exit(1)


def _client(protocol: Protocol, address: str | None, settings: ConnectionSettings) -> Client:
    if protocol is Protocol.GRPC:
        return D2ServeGrpcClient(address, **settings)
    return D2ServeClient(address, **settings)


def _key_file(token: str | None, key_file: Path | None) -> Path | None:
    """The key file that was named, or that of this directory where nothing else was."""
    if token is not None and key_file is not None:
        raise typer.BadParameter("give either --token or --key-file, not both")
    return key_file_or_here(key_file) if token is None else None


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise typer.BadParameter(f"got --header {line!r}, expected 'Name: value'")
        headers[name.strip()] = value.strip()
    return headers


def _print(image: Path, prediction: Prediction, as_json: bool) -> None:
    if as_json:
        _print_json(prediction.raw)
    else:
        console.print(heading(str(image), prediction), highlight=False, soft_wrap=True)
        console.print(*tables(prediction), sep="\n")


def _print_failure(image: Path, error: ClientError, as_json: bool) -> None:
    error_console.print(f"[red]{escape(str(image))}:[/] {escape(str(error))}", soft_wrap=True)
    if as_json:  # a line for every image, so that lines and images can be matched
        if isinstance(error, (RequestRejected, HandlerFailed)):  # as the server said it
            said = {"code": error.code, "message": error.message}
            _print_json({"error": said, "request_id": error.request_id})
        else:
            _print_json({"error": {"code": type(error).__name__, "message": str(error)}})


def _print_json(value: dict[str, object]) -> None:
    sys.stdout.buffer.write(orjson.dumps(value) + b"\n")
    sys.stdout.buffer.flush()


class _PictureNames:
    """File names for pictures: a/1.jpg and b/1.jpg of one run must not overwrite each other."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._used: dict[str, int] = {}

    def next(self, image: Path) -> Path:
        self._used[image.stem] = self._used.get(image.stem, 0) + 1
        number = self._used[image.stem]
        name = image.stem if number == 1 else f"{image.stem}_{number}"
        return (self._folder or Path()) / f"{name}.png"


def _write_picture(image: Path, prediction: Prediction, picture: Path) -> None:
    from d2serve.client.drawing import draw

    drawn = draw(image, prediction)
    picture.parent.mkdir(parents=True, exist_ok=True)
    drawn.save(picture)
    error_console.print(f"[dim]wrote {escape(str(picture))}[/]", highlight=False, soft_wrap=True)
