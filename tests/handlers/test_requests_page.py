"""docs/requests.md says what the code does; tests/client does so for its errors."""

from __future__ import annotations

import re
from pathlib import Path

from d2serve.handlers.limits import DEFAULT_LIMITS, NAMES
from d2serve.handlers.options import NAMES as OPTIONS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "requests.md").read_text()


def _rows(title: str) -> dict[str, str]:
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE)
    return {name: second.strip() for name, second in rows}


def test_every_option_is_there() -> None:
    assert tuple(_rows("Options")) == OPTIONS


def test_every_limit_is_there_with_its_default() -> None:
    assert _rows("Limits") == {name: str(getattr(DEFAULT_LIMITS, name)) for name in NAMES}
