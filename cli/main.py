"""Entry point of ``d2serve``, which works without any other package.

`pip install d2serve` installs no dependencies, since what is needed differs from command to
command. This module says which extra a command needs where Typer, which all of them use, is not
there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from d2serve.cli.commands import COMMANDS, SUMMARY, is_ours, missing_package, version_line


def main() -> None:
    """Run the command line of this process."""
    try:
        from d2serve.cli.app import main as run
    except ImportError as error:
        if is_ours(error):
            raise
        sys.exit(_without_typer(sys.argv[1:], error))
    run()


def _without_typer(arguments: Sequence[str], error: ImportError) -> int:
    """Answer as well as the standard library can; returns the exit status."""
    if "--version" in arguments[:1]:
        sys.stdout.write(f"{version_line()}\n")
        return 0
    if arguments and arguments[0] in COMMANDS:
        sys.stderr.write(f"Error: {missing_package(arguments[0], error)}\n")
        return 1
    sys.stdout.write(_help())
    return 0 if arguments in ([], ["--help"]) else 2


def _help() -> str:
    lines = [
        "Usage: d2serve COMMAND [OPTIONS]",
        "",
        SUMMARY,
        "",
        "No command can run yet: each needs an extra of d2serve.",
        "",
    ]
    for name, command in COMMANDS.items():
        lines += [f"  {name:<10}{command.summary}"]
        lines += [f"  {'':<10}pip install 'd2serve[{command.extra}]'"]
    return "\n".join([*lines, ""])
