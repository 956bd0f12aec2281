"""Why: the same tables are read on the terminal and in the repository, so they are made once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.figures import Figure
from benchmarks.pieces import AROUND, FORWARD, OUTSIDE
from benchmarks.plan import EAGER, SCRIPTING, TRACING
from benchmarks.results import BenchResults, SideResult
from benchmarks.summary import PERCENTS

LABELS = {
    EAGER: "eager detectron2",
    TRACING: "d2serve tracing",
    SCRIPTING: "d2serve scripting",
}


@dataclass(frozen=True)
class Table:
    """Rows of text under a title, with a sentence on how to read them."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(results: BenchResults) -> list[Table]:
    """All tables of a run."""
    return [
        _throughput(results),
        _latency(results),
        _latency_ratio(results),
        _pieces(results),
        _cold_start(results),
        _memory(results),
        _probe(results),
    ]


def show(results: BenchResults, console: Console) -> None:
    """Print the tables on a terminal."""
    for line in facts(results):
        console.print(line, highlight=False)
    for table in tables(results):
        shown = RichTable(*table.header, title=table.title, caption=table.note)
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)


def as_markdown(results: BenchResults) -> str:
    """The text of results.md."""
    parts = ["# Results\n", *(f"- {line}" for line in facts(results)), ""]
    for table in tables(results):
        parts += [
            f"## {table.title}\n",
            _markdown_row(table.header),
            _markdown_row(["---", *["---:"] * (len(table.header) - 1)]),
            *(_markdown_row(row) for row in table.rows),
            f"\n{table.note}\n",
        ]
    parts.append("![The same figures as bars](results.png)\n")
    return "\n".join(parts)


def facts(results: BenchResults) -> list[str]:
    """On what, with what and on which work the run was made."""
    machine, plan, work = results.machine, results.plan, results.workload
    versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    box_height, box_width = work["median_box"]
    agreements = [side.agreement for side in results.sides.values() if side.agreement is not None]
    return [
        f"{results.date}, {machine.cpu}, {machine.cores} cores, {machine.memory_gib:g} GiB, "
        f"{machine.system}; the run took {results.seconds / 60:.1f} minutes",
        versions,
        f"{plan.zoo_name}, random weights; JPEG of {_size(plan.picture_size)} "
        f"({results.picture_bytes // 1000} kB), model input {_size(plan.input_size)}",
        f"{work['detections']} instances an answer; the median box is "
        f"{box_width:.0f} x {box_height:.0f} pixels, the median mask has "
        f"{work['median_mask_pixels']:.0f} pixels and {work['median_rle_bytes']:.0f} bytes of RLE",
        "Before measuring, the answers of ours and of eager detectron2 were compared: boxes differ "
        f"by at most {max(a['box_px'] for a in agreements):.2g} px, scores by "
        f"{max(a['score'] for a in agreements):.2g}, masks in "
        f"{max(a['masks_differing'] for a in agreements)} of {work['detections']}",
    ]


def _throughput(results: BenchResults) -> Table:
    return Table(
        "Throughput, images per second",
        f"Median of {results.plan.rounds} rounds (lowest to highest), closed loop with as many "
        "clients as workers. Ratio: to the eager handler in the same round; higher is better.",
        ("side", "workers x threads", "requests", "images/s", "ratio to eager"),
        tuple(
            (
                LABELS[name],
                str(side.setup),
                str(_requests(side)),
                _figure(side.summary.throughput, 3),
                _figure(side.summary.throughput_ratio, 2),
            )
            for name, side in results.sides.items()
        ),
    )


def _latency(results: BenchResults) -> Table:
    return Table(
        "Latency, seconds",
        "Of the same requests, as the client sees them, with as many clients as workers: "
        "percentiles over all rounds (lowest to highest of the rounds' own). With so few requests, "
        "p99 is close to the slowest one.",
        ("side", *(f"p{p}" for p in PERCENTS)),
        tuple(
            (LABELS[name], *(_figure(side.summary.latency[f"p{p}"], 2) for p in PERCENTS))
            for name, side in results.sides.items()
        ),
    )


def _latency_ratio(results: BenchResults) -> Table:
    return Table(
        "Latency, ratio to the eager handler in the same round",
        "Median of the rounds (lowest to highest); lower is better.",
        ("side", *(f"p{p}" for p in PERCENTS)),
        tuple(
            (LABELS[name], *(_figure(side.summary.latency_ratio[f"p{p}"], 2) for p in PERCENTS))
            for name, side in results.sides.items()
        ),
    )


def _pieces(results: BenchResults) -> Table:
    return Table(
        "Time outside the model's forward, milliseconds in one thread",
        "In one process without a server; medians, with lowest to highest for the sum and the "
        "forward. Ratio: of the sums.",
        ("side", *AROUND, OUTSIDE, "ratio to eager", FORWARD),
        tuple(
            (
                LABELS[name],
                *(f"{side.pieces[step].value:.1f}" for step in AROUND),
                _figure(side.pieces[OUTSIDE], 0),
                f"{side.pieces[OUTSIDE].value / results.sides[EAGER].pieces[OUTSIDE].value:.3f}",
                _figure(side.pieces[FORWARD], 0),
            )
            for name, side in results.sides.items()
        ),
    )


def _cold_start(results: BenchResults) -> Table:
    return Table(
        "Cold start, seconds",
        f"Registration with one worker of {results.machine.cores} threads on a running server; "
        f"median of {results.plan.cold_starts} (lowest to highest). Ours has run its warm-up by "
        "the time its worker is READY.",
        ("side", "register until READY", "first answer then", "total", "ratio to eager"),
        tuple(
            (
                LABELS[name],
                _figure(side.cold_start.until_ready, 1),
                _figure(side.cold_start.first_answer, 1),
                _figure(side.cold_start.total, 1),
                f"{_cold(side) / _cold(results.sides[EAGER]):.2f}",
            )
            for name, side in results.sides.items()
        ),
    )


def _memory(results: BenchResults) -> Table:
    def pss(value: float | None) -> str:
        return "not told by this system" if value is None else f"{value:.0f}"

    return Table(
        "Memory of a worker, MiB",
        "Just loaded: a server's only worker when it was READY. After the run: mean of the side's "
        "workers, which share pages with the workers of the other sides.",
        ("side", "RSS loaded", "PSS loaded", "RSS after the run", "PSS after the run"),
        tuple(
            (
                LABELS[name],
                f"{side.cold_start.memory.rss:.0f}",
                pss(side.cold_start.memory.pss),
                f"{side.memory_after_run.rss:.0f}",
                pss(side.memory_after_run.pss),
            )
            for name, side in results.sides.items()
        ),
    )


def _probe(results: BenchResults) -> Table:
    def rows() -> Iterator[tuple[str, ...]]:
        for name, side in results.sides.items():
            for probe in side.probes:
                yield (
                    LABELS[name],
                    str(probe.setup),
                    f"{probe.throughput:.3f}",
                    f"{probe.median_latency:.2f}",
                    "chosen" if probe.setup == side.setup else "",
                )

    return Table(
        "How workers x threads were chosen",
        f"{results.plan.probe_requests} requests or more each, as many at once as workers; the "
        "highest throughput was taken.",
        ("side", "workers x threads", "images/s", "median latency, s", ""),
        tuple(rows()),
    )


def _requests(side: SideResult) -> int:
    return sum(len(load.latencies) for load in side.rounds)


def _cold(side: SideResult) -> float:
    return side.cold_start.total.value


def _figure(figure: Figure, digits: int) -> str:
    return f"{figure.value:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} (height x width)"


def _markdown_row(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"
