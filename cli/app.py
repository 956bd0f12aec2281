"""Why: one command, ``d2serve``, under which every task is found with ``--help``."""

from __future__ import annotations

import logging
import warnings

import typer

from d2serve.cli import diagnosing, exporting, predicting, serving

app = typer.Typer(
    help="Put detectron2 models into production.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("doctor")(diagnosing.doctor)
app.command("export")(exporting.export)
app.command("inspect")(exporting.inspect)
app.command("verify")(exporting.verify)
app.command("evaluate")(exporting.evaluate)
app.command("serve")(serving.serve)
app.command("predict")(predicting.predict)


def main() -> None:
    """Entry point of the ``d2serve`` command."""
    _silence_known_noise()
    app()


def _silence_known_noise() -> None:
    # What detectron2 and torch say of themselves at every start, about which no user can do
    # anything; in the processes that we start as well.
    for message in ("pkg_resources is deprecated", "`torch.jit", "torch.meshgrid"):
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
