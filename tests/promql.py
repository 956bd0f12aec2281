"""What expressions for Prometheus name: in the pages for operators, and in Grafana's dashboard."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.conftest import ROOT

DASHBOARD = ROOT / "deploy" / "grafana" / "d2serve.json"
PAGES = (ROOT / "docs" / "observing.md", ROOT / "docs" / "operating.md")

_WORDS = {
    *("sum", "rate", "by", "histogram_quantile", "increase", "changes", "max", "min", "avg"),
    *("and", "on", "unless", "absent"),
}
_NAME = re.compile(r"(?<![\w.$])([A-Za-z_]\w*)(?:\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|=|!=|!~)")
_GROUPED = re.compile(r"\b(?:by|on) \(([^)]*)\)")


@dataclass(frozen=True)
class Named:
    """What an expression names."""

    metrics: frozenset[str]
    """But for ``up``, which is Prometheus's own."""
    labels: frozenset[str]
    """But for ``instance`` and ``job``, which Prometheus adds."""


def named(expression: str) -> Named:
    """The metrics and labels of an expression; Grafana's variables are neither."""
    text = re.sub(r"#.*|\[[^\]]*\]", " ", expression)
    grouped = {name.strip() for names in _GROUPED.findall(text) for name in names.split(",")}
    found = _NAME.findall(_GROUPED.sub(" ", text))
    metrics = {name for name, _ in found} - _WORDS
    matched = {label for _, labels in found for label in _LABEL.findall(labels)}
    return Named(
        frozenset(metrics - {"up"}), frozenset((grouped | matched) - {"instance", "job", "le"})
    )


def expressions_of_pages() -> list[str]:
    """Those of the pages, without their comments."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```promql\n(.*?)^```$", page.read_text(), re.M | re.S):
            found += [line for line in block.splitlines() if not line.startswith("#")]
    return found


def dashboard() -> dict[str, Any]:
    """Grafana's."""
    parsed: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return parsed


def panels() -> list[dict[str, Any]]:
    """Those of the dashboard that show something."""
    return [each for each in dashboard()["panels"] if each["type"] != "row"]


def expressions_of_dashboard() -> dict[str, str]:
    """By panel and query."""
    return {
        f"{panel['title']}, {target['refId']}": target["expr"]
        for panel in panels()
        for target in panel["targets"]
    }


def needs_a_gpu(expression: str) -> bool:
    """Whether only a server with a GPU has what it names."""
    return any(name.startswith("GPU") for name in named(expression).metrics)
