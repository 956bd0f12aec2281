"""Keeps a server busy with requests of every kind, operates it meanwhile, and fails where a request
is lost or anything of the server grows:

python -m benchmarks.soak [MINUTES] [ARCHIVE.mar]

In the first third of the time the server is upgraded and restarted again and again; its tokens are
renewed all the time. What is then there is left alone, and its memory is looked at, since only a
process that lives on can be seen to grow. ``make soak`` takes 10 minutes and the trained example
model on OpenVINO, with Winograd's convolution where its native code is installed. What a slope of
minutes cannot tell from noise, its interval says; hours make it narrow.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.shared.machine import this_machine
from benchmarks.soak.archive import exported
from benchmarks.soak.asking import Clients
from benchmarks.soak.deeds import (
    Operator,
    TokenCounter,
    failures_of_operating,
    told_of,
)
from benchmarks.soak.plot import save_plot
from benchmarks.soak.processes import Sample, Watched
from benchmarks.soak.serving import Served
from benchmarks.soak.traffic import MODEL, Request, one_round
from benchmarks.soak.verdict import (
    MOST_MB_PER_HOUR,
    WARM_UP,
    Course,
    courses_of,
    failures_of,
    failures_of_convolution,
)
from d2serve.cli.progress import console
from d2serve.kernels.library import ways

_RESULTS = Path(__file__).resolve().parents[1] / "results"
_CONCURRENCY = 8
_OPERATED = 1 / 3
"""Of the whole time."""
_SECONDS_BETWEEN_SAMPLES = 5.0
_SHORTEST_REST = 60.0


@dataclass(frozen=True)
class Seen:
    """What was seen of a server that was left alone."""

    samples: list[Sample]
    workers: tuple[str, ...]
    replaced: list[str]
    """Workers that are not the same processes any more."""
    live_heaps: list[float | None]
    """MB of Java after the warm-up and at the end, without garbage."""


def operated(clients: Clients, requests: list[Request], operator: Operator) -> None:
    """Send rounds as long as the operator is at work."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("first round", total=None)
        operator.start()
        while operator.is_alive():
            clients.send(requests)
            done = ", ".join(f"{each.what} {each.took:.0f} s" for each in operator.deeds)
            told = f"{clients.outcomes.total:,} requests; {done or 'nothing done yet'}"
            progress.update(task, description=told)


def left_alone(served: Served, clients: Clients, requests: list[Request], seconds: float) -> Seen:
    """Send rounds for so long, and look at the processes meanwhile and in between."""
    watched = Watched(served, MODEL)
    samples: list[Sample] = []
    live_heaps: list[float | None] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(_SECONDS_BETWEEN_SAMPLES):
            samples.append(watched.sample(quiet=False))

    looking = threading.Thread(target=look)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, watched.looking():
        task = progress.add_task("first round", total=None)
        looking.start()
        start = time.monotonic()
        try:
            while (passed := (time.monotonic() - start) / seconds) < 1:
                if passed >= WARM_UP and not live_heaps:
                    live_heaps.append(watched.live_heap())
                clients.send(requests)
                samples.append(watched.sample(quiet=True))
                held = samples[-1].holdings
                told = ", ".join(f"{name} {each.rss:.0f} MB" for name, each in held.items())
                progress.update(task, description=f"{clients.outcomes.total:,} requests; {told}")
        finally:
            over.set()
            looking.join()
    live_heaps.append(watched.live_heap())
    samples.sort(key=lambda each: each.seconds)
    return Seen(samples, watched.workers, watched.replaced(), live_heaps)


def table_of(courses: dict[str, Course]) -> Table:
    """The processes, as rich prints them."""
    note = "after the warm-up; RSS at its least in the first and the last stretch"
    table = Table("process", "least RSS, MB", "MB an hour (95 %)", "files", "threads", caption=note)
    for name, course in courses.items():
        slope = course.slope
        table.add_row(
            name,
            f"{course.floors[0][1]:.1f} to {course.floors[-1][1]:.1f}",
            f"{slope.value:+.1f} ({slope.low:+.1f} to {slope.high:+.1f})",
            "{} to {}".format(*course.files),
            "{} to {}".format(*course.threads),
        )
    return table


def main(minutes: float, archive: Path | None) -> int:
    """Run the soak; 1 where it is not passed."""
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    began, requests = time.monotonic(), one_round()
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        Served(archive or exported(Path(folder)), Path(folder)) as served,
    ):
        clients, tokens = Clients(served, _CONCURRENCY), TokenCounter(served)
        operator = Operator(served, minutes * 60 * _OPERATED)
        tokens.start()
        operated(clients, requests, operator)
        rest = max(_SHORTEST_REST, minutes * 60 - (time.monotonic() - began))
        seen = left_alone(served, clients, requests, rest)
        tokens.stop()
        clients.close()
        failures = failures_of_operating(operator.deeds, len(tokens.tokens), minutes, served)
        events, convolutions = dict(served.log.events), dict(served.log.convolutions)
        if archive is None:
            failures += failures_of_convolution(ways(), convolutions)
    outcomes, courses = clients.outcomes, courses_of(seen.samples)
    failures += failures_of(courses, seen.workers, outcomes, seen.replaced)
    console.print(table_of(courses))
    console.print(
        f"{outcomes.total:,} requests in {minutes:g} minutes at concurrency {_CONCURRENCY}: "
        f"{dict(outcomes.counts.most_common())}; {outcomes.unanswered.total()} unanswered, "
        f"{outcomes.server_errors} answers of 5xx, {outcomes.unexpected.total()} unexpected. "
        f"Meanwhile {told_of(operator.deeds)} and {len(tokens.tokens)} tokens. "
        f"Java's heap without garbage, in MB: {seen.live_heaps}. "
        f"Workers said of their convolutions: {convolutions or 'nothing'}. "
        f"A worker fails where it grows, beyond chance, by {MOST_MB_PER_HOUR:g} MB an hour or more."
    )
    record = {
        "date": date,
        "minutes": minutes,
        "concurrency": _CONCURRENCY,
        "machine": asdict(this_machine()),
        "deeds": [asdict(each) for each in operator.deeds],
        "tokens": len(tokens.tokens),
        "events_of_the_log": events,
        "winograd": {"ways": ways(), "workers_said": convolutions},
        "outcomes": {**vars(outcomes), "server_errors": outcomes.server_errors},
        "processes": {name: asdict(course) for name, course in courses.items()},
        "live_heaps": seen.live_heaps,
        "failures": failures,
        "samples": [asdict(each) for each in seen.samples],
    }
    (_RESULTS / "soak.json").write_text(json.dumps(record) + "\n")
    save_plot(seen.samples, courses, seen.workers, _RESULTS / "soak.png")
    for failure in failures[:50]:
        console.print(f"FAILED {failure}", style="red", markup=False)
    console.print("failed" if failures else "passed")
    return 1 if failures else 0


if __name__ == "__main__":
    _minutes, _archive = [*sys.argv[1:], None, None][:2]
    sys.exit(main(float(_minutes or 10), Path(_archive) if _archive else None))
