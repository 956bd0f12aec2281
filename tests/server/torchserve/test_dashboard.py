"""Grafana's dashboard shows the metrics there are; tests/robustness asks a server for them."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import yaml

from d2serve.handlers.torchserve.metrics import HISTOGRAM, METRICS
from d2serve.server.torchserve.config.metrics_file import metrics_file
from tests.promql import DASHBOARD, dashboard, expressions_of_dashboard, named, panels


def listed() -> dict[str, set[str]]:
    """The labels of each metric of the metrics file, by the names that Prometheus has."""
    found: dict[str, set[str]] = {}
    for section in yaml.safe_load(metrics_file()).values():
        for kind, metrics in section.items():
            for metric in metrics:
                for end in ("_sum", "_count", "_bucket") if kind == HISTOGRAM else ("",):
                    found[metric["name"] + end] = {*metric["dimensions"], "Hostname"}
    return found


def test_every_query_names_metrics_and_labels_that_are_exported() -> None:
    known = listed()
    for name, expression in expressions_of_dashboard().items():
        found = named(expression)
        assert found.metrics <= set(known), name
        for metric in found.metrics:
            assert found.labels <= known[metric] | {"le"}, (name, metric)


def test_every_metric_of_ours_is_shown() -> None:
    shown = {name for each in expressions_of_dashboard().values() for name in named(each).metrics}
    for metric in METRICS:
        assert any(name.startswith(metric.name) for name in shown), metric.name


def test_every_variable_is_defined_and_used() -> None:
    defined = {each["name"] for each in dashboard()["templating"]["list"]}
    text = re.sub(r"\$__\w+", "", DASHBOARD.read_text())
    assert set(re.findall(r"\$\{?(\w+)", text)) == defined


def test_panels_are_apart_and_asked_of_the_chosen_prometheus() -> None:
    whole = dashboard()["panels"]
    assert len({each["id"] for each in whole}) == len(whole)
    for each in panels():
        assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in each["targets"]}) == len(each["targets"])
        assert each["description"]
    for one, other in combinations(whole, 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size]
        for at, size in (("x", "w"), ("y", "h"))
    )
