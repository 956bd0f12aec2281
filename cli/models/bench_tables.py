"""The tables and sentences that `d2serve bench` prints."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from d2serve.cli.progress import console, note
from d2serve.handlers.spec.runtimes import RUNTIMES
from d2serve.server.measuring.advice import Advice, best_of
from d2serve.server.measuring.figures import Figure, shown
from d2serve.server.measuring.images import Images
from d2serve.server.measuring.machine import Machine
from d2serve.server.measuring.plan import Cell, reference_of
from d2serve.server.measuring.session import Measured

_FEW = 5
"""Things in an image, on average: with fewer the drawn picture says little of masks."""


def print_measured(machine: Machine, images: Images, measured: Measured, advice: Advice) -> None:
    """Print what was measured, and what follows."""
    for text in measured.notes:
        note(text)
    if measured.interrupted:
        note("It was interrupted: this is what was measured so far.")
    _say(
        f"{machine.cores} cores ({machine.cpu}), {images.described}, "
        f"{measured.rounds} rounds in {measured.seconds:.0f} s"
    )
    for subject in dict.fromkeys(cell.subject for cell in measured.cells):
        spec = subject.spec
        _say(f"{subject.name}: {spec.family}, {RUNTIMES[spec.runtime].title} {spec.precision}")
    console.print(_rates(measured.cells))
    console.print(_pieces(measured.cells))
    if images.drawn:
        _say(_about_drawn(best_of(measured.cells)))
    console.print(f"\n[bold]What to set to serve {escape(advice.archive)}[/]")
    if not advice.lines:
        _say("Nothing that was measured speaks for other settings.")
    for where in dict.fromkeys(file for file, _line in advice.lines):
        _say(f"# {where}")
        for file, line in advice.lines:
            if file == where:
                _say(line)
    console.print()
    for reason in advice.reasons:
        _say(f"- {reason}")


def _rates(cells: list[Cell]) -> Table:
    best, reference = best_of(cells), reference_of(cells)
    table = Table(
        title="Images a second; ratios are to the best of the archive named first",
        title_justify="left",
    )
    table.add_column("archive", overflow="fold")
    for title in ("workers x\nthreads", "images/s", "low to high", "ratio", "p50 ms", "p99 ms"):
        table.add_column(title, justify="right", no_wrap=True)
    for cell in cells:
        name = escape(cell.subject.name)
        table.add_row(
            f"[green]{name}[/]" if cell is best else name,
            _setup(cell),
            shown(cell.rate.value),
            _range(cell.rate),
            f"{cell.ratio(reference).value:.2f}",
            shown(1000 * cell.latency(50).value),
            shown(1000 * cell.latency(99).value),
        )
    return table


def _pieces(cells: list[Cell]) -> Table:
    table = Table(title="Where the time of an image goes, in ms, and memory", title_justify="left")
    table.add_column("archive", overflow="fold")
    titles = (
        "workers x\nthreads",
        "decode,\nresize",
        "model",
        "boxes,\nmasks",
        "JSON",
        "found",
        "MiB each",
    )
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for cell in cells:
        table.add_row(
            escape(cell.subject.name),
            _setup(cell),
            shown(cell.step("decode") + cell.step("preprocess")),
            shown(cell.step("forward")),
            shown(cell.step("postprocess")),
            shown(cell.step("encode")),
            shown(cell.objects),
            f"{cell.memory_mib:.0f}",
        )
    return table


def _setup(cell: Cell) -> str:
    setup = cell.setup
    more = f"\nbatch {setup.batch}" if setup.batch > 1 else ""
    return f"{setup.workers} x {setup.threads}{more}"


def _about_drawn(cell: Cell) -> str:
    after = cell.step("postprocess") + cell.step("encode")
    whole = after + sum(cell.step(name) for name in ("decode", "preprocess", "forward"))
    text = (
        f"The picture is drawn, and {shown(cell.objects)} things are found in it: what comes after "
        f"the model, {shown(after)} of {shown(whole)} ms here, grows with them."
    )
    if cell.objects >= 1:
        each = after / cell.objects
        text += f" With 100 it would be about {shown(100 * each)} ms."
    return f"{text} For figures of your own images: --images DIR"


def _range(figure: Figure) -> str:
    if figure.low == figure.high:
        return "one round"
    return f"{shown(figure.low)} to {shown(figure.high)}"


def _say(text: str) -> None:
    console.print(escape(text), soft_wrap=True, highlight=False)
