"""docs/operating.md says what the code does; tests/robustness asks a server for what it names."""

from __future__ import annotations

import re
from pathlib import Path

from d2serve.handlers.torchserve.metrics import METRICS

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "operating.md").read_text()

_WORDS = {
    *("sum", "rate", "by", "histogram_quantile", "increase", "changes", "max", "avg"),
    *("and", "on", "unless", "absent"),
}


def promql_names() -> set[str]:
    """The metrics in the page's expressions, but for ``up``, which is Prometheus's own."""
    found: set[str] = set()
    for block in re.findall(r"^```promql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        text = re.sub(r"#.*|\{[^}]*\}|\[[^\]]*\]|\b(?:by|on) \([^)]*\)", " ", block)
        found |= set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", text))
    return found - _WORDS - {"up"}


def test_every_metric_is_in_the_table() -> None:
    section = PAGE.split("## Metrics\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(d2serve_\w+)` \| (\w+) \| ([^|]+) \|", section, re.MULTILINE)
    assert [(name, kind) for name, kind, _ in rows] == [(each.name, each.kind) for each in METRICS]
    for (_, _, labels), metric in zip(rows, METRICS):
        assert tuple(re.findall(r"`(\w+)`", labels)) == metric.labels


def test_expressions_name_metrics() -> None:
    names = promql_names()
    assert len(names) > 8
    ours = {f"{each.name}{end}" for each in METRICS for end in ("", "_sum", "_count", "_bucket")}
    assert {name for name in names if name.startswith("d2serve")} <= ours
