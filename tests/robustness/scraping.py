"""Reads a server's metrics as Prometheus does."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import Callable

import httpx

_SAMPLE = re.compile(r"(?P<name>[A-Za-z_]\w*)(\{(?P<labels>[^}]*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')

Key = tuple[str, frozenset[tuple[str, str]]]


class Scrape:
    """The samples of one page."""

    def __init__(self, page: str) -> None:
        self.values: dict[Key, float] = {}
        for line in page.splitlines():
            if line.startswith("#") or not line:
                continue
            match = _SAMPLE.fullmatch(line)
            assert match is not None, line
            labels = frozenset(_LABEL.findall(match["labels"] or ""))
            self.values[match["name"], labels] = float(match["value"])

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.values}

    def of(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels; 0 where there are none."""
        wanted = set(labels.items())
        return sum(
            value for (each, has), value in self.values.items() if each == name and wanted <= has
        )


def scrape(address: str) -> Scrape:
    """Without a token: the metrics address asks for none."""
    page = httpx.get(f"{address}/metrics", trust_env=False, timeout=30)
    assert page.status_code == 200
    return Scrape(page.text)


def scraped_until(address: str, enough: Callable[[Scrape], bool], seconds: float = 20.0) -> Scrape:
    """Scrape until it is enough: TorchServe reads a worker's metrics after its reply."""
    deadline = time.monotonic() + seconds
    got = Scrape("")
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):  # it is still starting
            got = scrape(address)
            if enough(got):
                return got
        time.sleep(0.1)
    raise AssertionError(f"not enough: {sorted(got.values.items(), key=str)}")
