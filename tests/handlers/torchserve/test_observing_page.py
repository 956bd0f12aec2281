"""docs/observing.md says what the code does; tests/robustness asks a server for what it names."""

from __future__ import annotations

import re

from d2serve.handlers.torchserve.metrics import METRICS
from tests.promql import PAGES, expressions_of_pages, named


def test_every_metric_is_in_the_table() -> None:
    section = PAGES[0].read_text().split("## Metrics\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(d2serve_\w+)` \| (\w+) \| ([^|]+) \|", section, re.MULTILINE)
    assert [(name, kind) for name, kind, _ in rows] == [(each.name, each.kind) for each in METRICS]
    for (_, _, labels), metric in zip(rows, METRICS):
        assert tuple(re.findall(r"`(\w+)`", labels)) == metric.labels


def test_expressions_name_metrics() -> None:
    names = {name for each in expressions_of_pages() for name in named(each).metrics}
    assert len(names) > 8
    ours = {f"{each.name}{end}" for each in METRICS for end in ("", "_sum", "_count", "_bucket")}
    assert {name for name in names if name.startswith("d2serve")} <= ours
