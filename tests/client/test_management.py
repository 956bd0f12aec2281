"""The management client and odd answers; test_served_management has those of a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from d2serve.client.connection.retrying import NO_RETRY
from d2serve.client.errors import InvalidInput, MalformedReply, ServerOverloaded
from d2serve.client.management import ManagementClient
from tests.client.answers import TORCHSERVES, Answer, Requests, http_server
from tests.client.protocols import QUICK

FULL = TORCHSERVES["ServiceUnavailableException", 503]


def answer(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode())


@contextmanager
def managed(*answers: Answer, **settings: Any) -> Iterator[tuple[ManagementClient, Requests]]:
    """A client of a server that gives these answers."""
    with http_server(*answers) as asked:
        given = {"token": "t"} if "key_file" not in settings else {}
        with ManagementClient(asked.address, **{**given, **settings}) as client:
            yield client, asked


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"models": None},
        {"models": 3},
        {"models": ["m"]},
        {"models": [{"modelName": "m"}]},
        {"models": [{"modelName": "m", "modelUrl": None}]},
        [],
    ],
    ids=json.dumps,
)
def test_a_list_of_models_that_is_none(odd: Any) -> None:
    with managed(answer(odd)) as (client, _), pytest.raises(MalformedReply, match="/models"):
        client.list_models()


def test_models_are_listed_over_pages() -> None:
    pages = [
        {"models": [{"modelName": "a", "modelUrl": "a.mar"}], "nextPageToken": "1"},
        {"models": [{"modelName": "b", "modelUrl": "b.mar"}]},
    ]
    with managed(*map(answer, pages)) as (client, _):
        assert client.list_models() == {"a": "a.mar", "b": "b.mar"}


def test_a_full_server_is_asked_again() -> None:
    with managed(FULL, answer({"models": []}), retry=QUICK) as (client, asked):
        assert client.list_models() == {}
    assert len(asked.times) == 2
    with managed(FULL, retry=NO_RETRY) as (client, _), pytest.raises(ServerOverloaded):
        client.list_models()


def test_a_token_is_renewed_with_the_api_key_of_the_file(tmp_path: Path) -> None:
    keys = {"management": {"key": "m"}, "API": {"key": "a"}}
    (tmp_path / "key_file.json").write_text(json.dumps(keys))
    with managed(answer({}), key_file=tmp_path / "key_file.json") as (client, asked):
        client.renew_token("inference")
    assert [each["authorization"] for each in asked.headers] == ["Bearer a"]
    with managed() as (client, _), pytest.raises(InvalidInput, match="instead of a token"):
        client.renew_token("inference")
