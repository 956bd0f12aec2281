"""docs/requests.md, the table of errors in the client, the handler's own and TorchServe's words are
one and the same.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import d2serve.client as public
from d2serve.client import errors
from d2serve.client.connection.retrying import DEFAULT_RETRY
from d2serve.client.connection.server_errors import http_error
from d2serve.client.connection.settings import Connection
from d2serve.handlers.errors import RequestError
from tests.client.answers import HANDLERS, ONLY_HTTP, TORCHSERVES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "requests.md").read_text()
COLUMNS = 6
WITHOUT_AN_ANSWER = {
    "nobody listens": ("UNAVAILABLE", errors.NotConnected),
    "the connection is lost": ("UNAVAILABLE", errors.ServerUnavailable),
    "nothing within timeout": ("DEADLINE_EXCEEDED", errors.ServerUnavailable),
}
"""What test_asked_once causes without any words of TorchServe's."""


def _tables() -> list[list[list[str]]]:
    """The rows of the section's tables, without their headings."""
    section = PAGE.split("## Errors\n")[1].split("\n## ")[0]
    found = []
    for table in re.findall(r"(?:^\|.*\|\n)+", section, re.MULTILINE):
        rows = [
            [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
            for line in table.splitlines()
        ]
        assert {len(row) for row in rows} == {COLUMNS}
        found.append(rows[2:])
    return found


OURS, TORCHSERVES_OWN = _tables()
RETRIED = {"yes": True, "no": False, "by wish": False}


def _exception(name: str) -> type[errors.ClientError]:
    kind = getattr(public, name)
    assert issubclass(kind, errors.ClientError)
    return kind  # type: ignore[no-any-return]


def test_every_code_of_the_handler_has_its_row_and_its_type() -> None:
    codes = {kind.code: str(kind.status) for kind in RequestError.__subclasses__()}
    assert {row[0]: row[1] for row in OURS} == codes
    assert {row[0]: _exception(row[3]) for row in OURS} == dict(errors.BY_CODE)
    for kind in RequestError.__subclasses__():
        told = errors.BY_CODE[kind.code]
        assert told.__name__ == kind.__name__
        assert issubclass(told, errors.RequestRejected) == (kind.status < 500)
        assert issubclass(told, errors.ServerFailed) == (kind.status >= 500)


@pytest.mark.parametrize("row", OURS, ids=lambda row: row[0])
def test_a_code_of_the_handler(row: list[str]) -> None:
    answer = HANDLERS[row[0]]
    assert (str(answer.status), answer.grpc_code.name) == (row[1], row[2])
    assert not issubclass(_exception(row[3]), DEFAULT_RETRY.errors)
    assert row[4] == "no"


def test_every_answer_of_torchserve_has_its_row() -> None:
    told = {(row[0], int(row[1])) for row in TORCHSERVES_OWN if row[1] != "–"}
    assert told == {*TORCHSERVES, *ONLY_HTTP}
    assert {row[0] for row in TORCHSERVES_OWN if row[1] == "–"} == set(WITHOUT_AN_ANSWER)


@pytest.mark.parametrize("row", TORCHSERVES_OWN, ids=lambda row: " ".join(row[:2]))
def test_an_answer_of_torchserve(row: list[str]) -> None:
    says, status, grpc_code, raised, retried, _ = row
    assert RETRIED[retried] == issubclass(_exception(raised), DEFAULT_RETRY.errors)
    if status == "–":
        assert (grpc_code, _exception(raised)) == WITHOUT_AN_ANSWER[says]
        return
    known = TORCHSERVES.get((says, int(status)))
    answer = known or ONLY_HTTP[says, int(status)]
    error = http_error(int(status), answer.body, Connection("inference", "127.0.0.1"))
    assert type(error) is _exception(raised)
    assert grpc_code == ("–" if known is None else known.grpc_code.name)


def test_public_names_are_there() -> None:
    assert sorted(public.__all__) == list(public.__all__)
    for name in public.__all__:
        assert inspect.isclass(getattr(public, name)) or callable(getattr(public, name))
    for kind in errors.BY_CODE.values():
        assert getattr(public, kind.__name__) is kind
