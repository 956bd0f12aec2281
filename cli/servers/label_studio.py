"""``d2serve label-studio``: a model as the ML backend of Label Studio."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.logging import RichHandler
from rich.markup import escape

from d2serve.cli.options import KeyFilePath, key_file_or_here
from d2serve.cli.progress import console, error_console, shown_progress
from d2serve.cli.running import fail
from d2serve.cli.servers.stopping import StopRequested, stopped_by_signals
from d2serve.client.errors import ClientError
from d2serve.server.annotating.asking import Model, open_model
from d2serve.server.annotating.label_studio import LabelStudioBackend
from d2serve.server.annotating.label_studio_server import DEFAULT_PORT, LabelStudioServer
from d2serve.server.annotating.task_images import TaskImages


def label_studio(
    model: Annotated[
        str,
        typer.Argument(
            help="An archive, which answers in this process; with --address the name of a served "
            "model.",
            metavar="FILE.mar|NAME",
        ),
    ],
    port: Annotated[int, typer.Option(help="Port to answer Label Studio on.")] = DEFAULT_PORT,
    host: Annotated[
        str,
        typer.Option(
            help="Address of this machine to answer on. Other than this machine's own, it needs "
            "BASIC_AUTH_USER and BASIC_AUTH_PASS in the environment."
        ),
    ] = "127.0.0.1",
    studio: Annotated[
        Optional[str],
        typer.Option(
            "--label-studio",
            envvar="LABEL_STUDIO_URL",
            help="Label Studio's address, from which the images of tasks are read. Its key is read "
            "from LABEL_STUDIO_API_KEY.",
            metavar="URL",
        ),
    ] = None,
    image_host: Annotated[
        Optional[list[str]],
        typer.Option(
            help="Another host that images may be read from, such as that of presigned links; give "
            "it again for another. No other host is asked.",
            metavar="HOST",
        ),
    ] = None,
    local_files: Annotated[
        Optional[Path],
        typer.Option(
            help="The folder that Label Studio has as LOCAL_FILES_DOCUMENT_ROOT, if it is on this "
            "machine."
        ),
    ] = None,
    address: Annotated[
        Optional[str],
        typer.Option(help="Ask the server at this inference address in place of an archive."),
    ] = None,
    key_file: KeyFilePath = None,
) -> None:
    """Answer Label Studio as its ML backend, until Ctrl-C."""
    logging.basicConfig(
        format="%(message)s",
        handlers=[RichHandler(console=error_console, show_path=False, markup=False)],
    )
    try:
        with stopped_by_signals():
            with shown_progress() as (begin, _):
                begin(f"loading {model}", 0)
                opened = _opened(model, address, key_file)
            images = TaskImages(
                opened.about.most_image_bytes,
                label_studio=studio,
                api_key=os.environ.get("LABEL_STUDIO_API_KEY"),
                hosts=image_host or (),
                folder=local_files,
            )
            backend = LabelStudioBackend(opened, images)
            with LabelStudioServer(backend, host, port, _login()) as server:
                console.print(
                    f"[green]Ready.[/] In Label Studio: Settings, Model, Connect Model, Backend "
                    f"URL {escape(server.address)}\nStop with Ctrl-C.",
                    soft_wrap=True,
                )
                server.serve_forever()
    except ClientError as error:
        fail(error)
    except StopRequested:
        error_console.print("Stopped.")


def _opened(model: str, address: str | None, key_file: Path | None) -> Model:
    if address is None:
        return open_model(model)
    key_file = key_file_or_here(key_file)
    settings: dict[str, Any] = {} if key_file is None else {"key_file": key_file}
    return open_model(address=address, model=model, **settings)


def _login() -> tuple[str, str] | None:
    """As Label Studio's own backends name them."""
    user, password = os.environ.get("BASIC_AUTH_USER"), os.environ.get("BASIC_AUTH_PASS")
    return (user, password) if user and password else None
