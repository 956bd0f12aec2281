"""What a client says of a token that is refused and of a model that is not there: with the address
that there really is, and none that is made up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from d2serve.client.connection.refusals import refusal_error
from d2serve.client.connection.server_errors import model_not_found_error
from d2serve.client.connection.settings import Connection

SERVER = "http://127.0.0.1:19080"
MANAGEMENT = "http://127.0.0.1:19081"
OVER, TO_COME = "2020-01-01T00:00:00.123456789Z", "2999-01-01T00:00:00Z"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A server's, with an inference token that has expired and a management token that has not."""
    made = tmp_path / "of-the-server"
    made.mkdir()
    keys: dict[str, Any] = {
        "management": {"key": "m", "expiration time": TO_COME},
        "inference": {"key": "i", "expiration time": OVER},
        "API": {"key": "a"},
    }
    (made / "key_file.json").write_text(json.dumps(keys))
    return made


def asking(directory: Path, kind: str = "inference", address: str = SERVER) -> Connection:
    return Connection(kind, address, key_file=directory / "key_file.json")


def test_an_expired_token_is_renewed_at_the_address_that_the_server_wrote(directory: Path) -> None:
    (directory / "config.properties").write_text(
        "# management_address=http://127.0.0.1:1\n"
        "inference_address=http://127.0.0.1:2\n"
        f"management_address={MANAGEMENT}\n"
    )
    message = str(refusal_error(asking(directory)))
    assert f"the one in {directory / 'key_file.json'} has expired" in message
    assert f"`curl '{MANAGEMENT}/token?type=inference'" in message
    assert "8081" not in message


def test_the_link_that_serve_makes_leads_to_that_file(directory: Path, tmp_path: Path) -> None:
    (directory / "config.properties").write_text(f"management_address: {MANAGEMENT}\n")
    (tmp_path / "key_file.json").symlink_to(directory / "key_file.json")
    (tmp_path / "config.properties").write_text("management_address=http://127.0.0.1:3\n")
    connection = Connection("inference", SERVER, key_file=tmp_path / "key_file.json")
    assert f"'{MANAGEMENT}/token" in str(refusal_error(connection))


@pytest.mark.parametrize(
    "config",
    [
        None,
        "inference_address=http://127.0.0.1:2\n",
        "management_address=http://127.0.0.1:2\nmanagement_address=unix:/tmp/socket\n",
        "management_address=\n",
        "\udcff",
    ],
)
def test_where_no_address_is_known_the_default_is_called_one(
    directory: Path, config: str | None
) -> None:
    if config is not None:
        content = config.encode("utf-8", "surrogateescape")
        (directory / "config.properties").write_bytes(content)
    message = str(refusal_error(asking(directory)))
    assert "'MANAGEMENT_ADDRESS/token?type=inference'" in message
    assert "(TorchServe's own default is http://127.0.0.1:8081)" in message


def test_a_client_of_the_management_api_knows_its_address(directory: Path) -> None:
    written = (directory / "key_file.json").read_text().replace(TO_COME, OVER)
    (directory / "key_file.json").write_text(written)
    connection = asking(directory, "management", MANAGEMENT)
    assert f"`curl '{MANAGEMENT}/token?type=management'" in str(refusal_error(connection))


def test_a_token_that_holds_is_of_another_server(directory: Path) -> None:
    message = str(refusal_error(asking(directory, "management", MANAGEMENT)))
    assert "belongs to another server" in message
    assert f"the server at {MANAGEMENT}" in message
    assert "curl" not in message, "a new token would be refused as well"


def test_a_token_given_as_text_and_none_at_all() -> None:
    given = str(refusal_error(Connection("inference", SERVER, token="t")))
    assert "it is wrong, not for inference, or has ended" in given
    assert "MANAGEMENT_ADDRESS" in given
    none = str(refusal_error(Connection("inference", SERVER)))
    assert "no token was given" in none


def test_a_model_that_is_not_there(directory: Path) -> None:
    (directory / "config.properties").write_text(f"management_address={MANAGEMENT}\n")
    known = str(model_not_found_error("Model not found: m", asking(directory)))
    assert f"GET /models at the management address {MANAGEMENT}." in known
    unknown = str(model_not_found_error("Model not found: m", Connection("inference", SERVER)))
    assert unknown.endswith(
        "at the management address (TorchServe's own default is http://127.0.0.1:8081)."
    )
