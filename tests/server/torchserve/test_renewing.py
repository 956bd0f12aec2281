"""The thread that renews a server's tokens; tests/faults/test_token_hour.py has its clients."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from d2serve.client.connection.credentials import KeyFile
from d2serve.client.errors import AuthorizationError, ServerStartError
from d2serve.server.torchserve.process import TorchServeProcess
from d2serve.server.torchserve.renewing import CHECK_SECONDS, TokenRenewal, token_life
from tests.client.answers import TORCHSERVES, Answer, http_server
from tests.client.conftest import CANNED_HANDLER, make_archive

NOBODY = "http://127.0.0.1:1"
TOKENS_OF_SECONDS = {"token_expiration_min": "0.1"}
DONE = Answer(200, b"{}")
REFUSED = TORCHSERVES["InvalidKeyException", 400]


def write_keys(file: Path, **seconds_left: float) -> None:
    keys: dict[str, Any] = {"API": {"key": "a"}}
    for kind, seconds in seconds_left.items():
        end = datetime.now(timezone.utc) + timedelta(seconds=seconds)
        keys[kind] = {"key": kind, "expiration time": end.strftime("%Y-%m-%dT%H:%M:%S.123456Z")}
    file.write_text(json.dumps(keys))


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def is_whole(file: Path | None) -> bool:
    assert file is not None
    try:
        return bool(KeyFile(file).inference)
    except AuthorizationError:
        return False


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("written", "minutes"),
    [({}, 60), ({"token_expiration_min": "1"}, 1), ("hour", 60), ("0.5", 0.5)],
)
def test_how_long_a_token_lives(written: Any, minutes: float) -> None:
    settings = written if isinstance(written, dict) else {"token_expiration_min": written}
    assert token_life(settings) == timedelta(minutes=minutes)


@pytest.mark.parametrize("written", ["0", "-5", "0.05", "nan", "inf"])
def test_tokens_that_end_at_once_are_refused_before_the_start(written: str) -> None:
    server = TorchServeProcess(overrides={"token_expiration_min": written})
    with pytest.raises(ServerStartError, match=rf"token_expiration_min={written}.*at least 0\.1"):
        server.start()
    assert not server.is_running()


@pytest.mark.parametrize(("minutes", "age"), [("60", 55 * 60), ("1", 45), ("0.1", 4.5)])
def test_it_is_renewed_late_with_time_left(minutes: str, age: float) -> None:
    renewal = TokenRenewal({"token_expiration_min": minutes}, NOBODY)
    assert renewal.age == timedelta(seconds=age)


def test_only_what_ends_soon_is_renewed(tmp_path: Path) -> None:
    key_file = tmp_path / "key_file.json"
    write_keys(key_file, inference=1000, management=200)
    with http_server(DONE) as asked:
        renewal = TokenRenewal({}, f"http://{asked.address}")
        renewal.start(key_file)
        wait_for(lambda: asked.times)
        renewal.stop()
        write_keys(key_file, inference=-1, management=-1)
        time.sleep(2 * CHECK_SECONDS)
    assert {each["authorization"] for each in asked.headers} == {"Bearer a"}
    assert len(asked.times) == 1, "the management token, and nothing after the stop"


def test_a_failure_is_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key_file = tmp_path / "key_file.json"
    write_keys(key_file, inference=-3600, management=3600)  # as after a night in a closed laptop
    failed = Answer(500, b'{"type": "InternalServerException", "message": "told"}')
    with http_server(failed, REFUSED, failed, DONE) as asked:
        renewal = TokenRenewal(TOKENS_OF_SECONDS, f"http://{asked.address}")
        renewal.start(key_file)
        wait_for(lambda: len(asked.times) >= 4)
        write_keys(key_file, inference=3600, management=3600)
        renewal.stop()
    (said,) = warnings_of(caplog)
    assert "told" in said
    assert "tried again every 1 s" in said


def test_a_file_that_is_not_there_yet_is_waited_for_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key_file = tmp_path / "key_file.json"
    with http_server(DONE) as asked:
        renewal = TokenRenewal(TOKENS_OF_SECONDS, f"http://{asked.address}")
        renewal.start(key_file)
        time.sleep(2 * CHECK_SECONDS)
        assert not asked.times
        write_keys(key_file, inference=0, management=3600)
        wait_for(lambda: asked.times)
        renewal.stop()
    assert warnings_of(caplog) == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServeProcess]:
    """With tokens of 6 seconds, and a model that takes longer to load. Models cannot be registered,
    which has nothing to do with tokens."""
    store = tmp_path_factory.mktemp("renewing") / "store"
    store.mkdir()
    begins = "def initialize(self, context):"
    slow = CANNED_HANDLER.replace(begins, f"{begins}\n        import time; time.sleep(8)")
    make_archive(store, "slow", slow, "1.0")
    with TorchServeProcess(
        {"slow": "slow.mar"}, model_store=store, enable_model_api=False, overrides=TOKENS_OF_SECONDS
    ) as running:
        yield running


def test_a_key_file_that_is_lost_is_written_anew(
    server: TorchServeProcess, caplog: pytest.LogCaptureFixture
) -> None:
    assert server.key_file is not None
    for lose in (lambda file: file.write_text(""), Path.unlink):  # a full disk; a tidy script
        lose(server.key_file)
        wait_for(lambda: is_whole(server.key_file))
        assert server.http.predict("slow", b"1").model == "slow"
    assert warnings_of(caplog) == []


def test_where_nothing_renews_them_the_error_has_the_command_that_does(
    server: TorchServeProcess,
) -> None:
    """The last test: it leaves the server without its renewal."""
    assert server.key_file is not None
    server.renewal.stop()
    keys = KeyFile(server.key_file)
    wait_for(lambda: keys.expired("inference") and keys.expired("management"))
    time.sleep(1)  # which leaves fractions of a second out
    predicting = [partial(client.predict, "slow", b"1") for client in (server.http, server.grpc)]
    for asks in (predicting, [server.management.list_models]):
        said = set()
        for ask in asks:
            with pytest.raises(AuthorizationError, match="has expired") as caught:
                ask()
            said.add(str(caught.value))
        (command,) = (found for each in said for found in re.findall("`(curl .*?)`", each))
        assert f"'{server.management_address}/token?type=" in command
        command = command.replace("<API key of key_file.json>", keys.api)
        subprocess.run(["bash", "-c", f"{command} --fail --silent"], check=True)
        for ask in asks:
            ask()
