"""docs/requests.md, the table of settings that every client takes, is that of the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from d2serve.client.connection.settings import Connection, ConnectionSettings

PAGE = Path(__file__).resolve().parents[3] / "docs" / "requests.md"


def test_every_setting_has_its_row() -> None:
    section = PAGE.read_text().split("### Reaching a server\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))
    assert list(rows) == list(ConnectionSettings.__annotations__)
    taken = inspect.signature(Connection).parameters
    assert [name for name, each in taken.items() if each.kind is each.KEYWORD_ONLY] == list(rows)
    assert rows["timeout"] == f"{taken['timeout'].default:g}"
    assert rows["retry"] == f"{taken['retry'].default.seconds:g} seconds"
