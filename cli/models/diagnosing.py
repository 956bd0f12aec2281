"""``d2serve doctor``: what can be exported, and what settings of a server are unsafe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape
from rich.table import Table

from d2serve.cli.options import (
    CONFIG_FILE_HELP,
    ImageFormat,
    Imports,
    MaxSizeTest,
    MinSizeTest,
    Overrides,
)
from d2serve.cli.progress import console
from d2serve.cli.running import fail, needs_detectron2, run
from d2serve.client.errors import ClientError
from d2serve.server.torchserve.config.properties import risks_of
from d2serve.server.torchserve.config.settings import missing_metrics_file

if TYPE_CHECKING:
    from d2serve.export.doctor import Diagnosis, Finding
    from d2serve.export.request import Progress

_COLOURS = {
    "exports": "green",
    "exports with rewrites": "green",
    "exports with doubts": "yellow",
    "cannot": "red",
}


def doctor(
    config_file: Annotated[
        Optional[str],
        typer.Option("--config-file", help=CONFIG_FILE_HELP),
    ] = None,
    overrides: Overrides = None,
    imports: Imports = None,
    min_size_test: MinSizeTest = None,
    max_size_test: MaxSizeTest = None,
    image_format: ImageFormat = None,
    ts_config: Annotated[
        Optional[Path],
        typer.Option(help="A server's config.properties, whose unsafe settings are named."),
    ] = None,
) -> None:
    """Check whether and how a model can be exported, and what a server's settings open."""
    if config_file is None and ts_config is None:
        fail("Give a model's config (--config-file), a server's (--ts-config), or both.")
    if ts_config is not None:
        _print_risks(ts_config)
    if config_file is None:
        return
    with needs_detectron2():
        from d2serve.export.doctor import examine
        from d2serve.export.reading.config import ConfigSource

    source = ConfigSource(
        config_file, overrides or (), imports or (), min_size_test, max_size_test, image_format
    )

    def look(progress: Progress) -> Diagnosis:
        progress.begin("Looking at the model", 0)
        return examine(source)

    diagnosis: Diagnosis = run(look)
    _print(diagnosis)
    if all(finding.refusal is not None for finding in diagnosis.findings):
        raise typer.Exit(1)


def _print_risks(ts_config: Path) -> None:
    try:
        risks, problem = risks_of(ts_config), missing_metrics_file(ts_config)
    except ClientError as error:
        fail(error)
    for risk in filter(None, (*risks, problem)):
        console.print(f"[yellow]Warning:[/] {escape(risk)}", soft_wrap=True, highlight=False)
    if not risks:
        console.print(f"{escape(str(ts_config))} opens nothing that the safe settings keep shut.")


def _print(diagnosis: Diagnosis) -> None:
    from d2serve.export.errors import place_of
    from d2serve.export.programs.trial import doubts_in_words

    table = Table(title=f"{diagnosis.family.name}", title_justify="left")
    for column in ("method", "runtime", "verdict", "rewrites"):
        table.add_column(column, overflow="fold")
    for finding in diagnosis.findings:
        colour = _COLOURS[finding.verdict]
        table.add_row(
            finding.method,
            finding.runtime,
            f"[{colour}]{finding.verdict}[/]",
            ", ".join(rewrite.name for rewrite in finding.rewrites),
        )
    console.print(table)
    rewrites = {
        rewrite.name: rewrite for finding in diagnosis.findings for rewrite in finding.rewrites
    }
    for name, rewrite in rewrites.items():
        what = f"replaces {rewrite.replaces.__name__} ({place_of(rewrite.replaces)})"
        if rewrite.is_by_name:
            what = "is an equivalent"
        console.print(
            f"[bold]{name}[/] {escape(what)}: {escape(rewrite.reason)}.",
            soft_wrap=True,
            highlight=False,
        )
    _print_by_way(diagnosis.findings, "red", lambda finding: finding.refusal)
    _print_by_way(
        diagnosis.findings,
        "yellow",
        lambda finding: doubts_in_words(finding.doubts) if finding.doubts else None,
    )
    for note in diagnosis.notes:
        console.print(f"[yellow]Note:[/] {escape(note)}", soft_wrap=True)


def _print_by_way(
    findings: Iterable[Finding], colour: str, text_of: Callable[[Finding], str | None]
) -> None:
    ways: dict[str, list[str]] = {}
    for finding in findings:
        text = text_of(finding)
        if text is not None:
            ways.setdefault(text, []).append(f"{finding.method}, {finding.runtime}")
    for text, named in ways.items():
        title = escape(" and ".join(named))
        console.print(f"[{colour}]{title}:[/] {escape(text)}", soft_wrap=True)
