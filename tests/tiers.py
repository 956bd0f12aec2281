"""Which make target runs a test: what a test needs is derived from its fixtures, and watched.

``make check`` runs what needs neither a server nor an export, so a test that starts either must say
so. Whoever takes a fixture for it need not think of that; whoever starts one by themselves and has
forgotten the marker reads it when the test runs.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

STARTED_BY = {"ts.model_server": "server", "d2serve.export.proof.replay_process": "export"}
"""What a command runs, and the marker of the tests that may run it. Every export answers images in
a process of the second kind before it writes an archive."""

GIVEN_BY = {"TorchServeProcess": "server", "Operator": "server", "Exporter": "export"}
"""A word in a fixture's return type, and the marker of the tests that use the fixture."""


def needs(test: pytest.Function) -> Iterator[str]:
    """The markers that follow from the fixtures of a test."""
    for name in test.fixturenames:
        for fixture in test._fixtureinfo.name2fixturedefs.get(name, ()):
            returned = str(getattr(fixture.func, "__annotations__", {}).get("return", ""))
            yield from (marker for word, marker in GIVEN_BY.items() if word in returned)


def longest_files_first(items: list[pytest.Item]) -> None:
    """Sort by what files need and then by how much is in them.

    A test process takes a file at a time. With the long ones first, exports begin at once, and at
    the end there are small ones to fill both processes.
    """
    tests = Counter(item.path for item in items)
    needs_export, needs_server = (
        {item.path for item in items if item.get_closest_marker(marker)}
        for marker in ("export", "server")
    )

    def place(item: pytest.Item) -> tuple[bool, bool, int, Path]:
        path = item.path
        return path not in needs_export, path not in needs_server, -tests[path], path

    items.sort(key=place)


def refuse_unmarked(test: pytest.Item, command: str | Sequence[object]) -> None:
    """Fail a test that runs a command which only marked tests may run."""
    words = command if isinstance(command, str) else " ".join(map(str, command))
    for run, marker in STARTED_BY.items():
        if run in words and test.get_closest_marker(marker) is None:
            pytest.fail(
                f"{test.nodeid} starts {run} and is not marked: put @pytest.mark.{marker} before "
                f"it. Without the marker `make check` runs it, which starts nothing of that kind.",
                pytrace=False,
            )


class Watch:
    """A pytest plugin that looks at each command which the running test starts."""

    def __init__(self) -> None:
        self._running: pytest.Item | None = None
        self._patch = pytest.MonkeyPatch()

    def pytest_sessionstart(self) -> None:
        start = subprocess.Popen.__init__

        def watched(process: subprocess.Popen[Any], args: Any, *rest: Any, **options: Any) -> None:
            if self._running is not None:
                refuse_unmarked(self._running, args)
            start(process, args, *rest, **options)

        self._patch.setattr(subprocess.Popen, "__init__", watched)

    def pytest_sessionfinish(self) -> None:
        self._patch.undo()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._running = item
        try:
            return (yield)
        finally:
            self._running = None
