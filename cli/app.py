"""The Typer application: one command, ``d2serve``, under which ``--help`` lists every task.

A command's module is imported when the command runs, so that none waits for, or fails for want of,
what only another one needs.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from d2serve.cli.commands import COMMANDS, SUMMARY, is_ours, missing_package, version_line
from d2serve.cli.running import fail

F = TypeVar("F", bound=Callable[..., None])
_NEGATIVE = re.compile(r"-(?:\d|\.\d)\S*")
_MARK = "\u2060"  # no word of a command line begins with this joiner, and none shows it


def _evaluated(function: F) -> F:
    """The function with its annotations as objects: on Python 3.9 Typer leaves text as it is, and
    an option would have neither its name nor its help."""
    function.__annotations__ = get_type_hints(function, include_extras=True)
    return function


class _ImportedWhenRun(TyperGroup):
    """A group that lists its commands by what d2serve.cli.commands says, and imports one when its
    options are asked for."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._is_listing = False
        for name, command in COMMANDS.items():
            self.commands[name] = TyperCommand(name, help=command.summary)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        listed = super().get_command(ctx, cmd_name)
        return listed if listed is None or self._is_listing else load(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._is_listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._is_listing = False


class _NegativeOverrides(TyperCommand):
    """A command that takes ``TEST.DETECTIONS_PER_IMAGE -1``: a number after a key is its value, and
    not an option, as detectron2's own tools read it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        before = ["-", *args]
        marked = [
            f"{_MARK}{word}" if _NEGATIVE.fullmatch(word) and not last.startswith("-") else word
            for last, word in zip(before, args)
        ]
        rest: list[str] = super().parse_args(ctx, marked)
        overrides = ctx.params.get("overrides")
        if overrides:
            ctx.params["overrides"] = [word.replace(_MARK, "") for word in overrides]
        return rest


def load(name: str) -> Any:
    """The command of a name, with its options."""
    command = COMMANDS[name]
    try:
        module = import_module(f"d2serve.cli.{command.module}")
    except ImportError as error:
        if is_ours(error):
            raise
        fail(missing_package(name, error))
    only = typer.Typer(add_completion=False)
    function = _evaluated(getattr(module, command.function))
    only.command(name, cls=_NegativeOverrides, epilog=f"Example: {command.example}")(function)
    return typer.main.get_command(only)


app = typer.Typer(
    cls=_ImportedWhenRun,
    help=SUMMARY,
    epilog="`d2serve COMMAND --help` shows the options of a command.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version_line())
        raise typer.Exit


@app.callback()
@_evaluated
def _of_all_commands(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print d2serve's version."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line of this process."""
    _silence_known_noise()
    app()


def _silence_known_noise() -> None:
    # What detectron2 and torch say of themselves at every start, about which no user can do
    # anything; in the processes that we start as well.
    for message in ("pkg_resources is deprecated", "`torch.jit", "torch.meshgrid"):
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
