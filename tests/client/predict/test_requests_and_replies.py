"""What is sent for an image, and what TorchServe's answers are taken for."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from d2serve.client.connection.addresses import with_scheme
from d2serve.client.connection.credentials import Credentials
from d2serve.client.connection.http import httpx_options
from d2serve.client.connection.server_errors import envelope_error, http_error
from d2serve.client.connection.settings import Connection
from d2serve.client.errors import (
    AuthorizationError,
    InvalidInput,
    ModelNotFound,
    RequestRejected,
    ServerFailed,
    ServerOverloaded,
)
from d2serve.client.predict.image_input import encode_image
from d2serve.client.readiness import MAX_STARTS, ReadinessWatch

NO_TOKEN = Connection("inference", "127.0.0.1:8080")


def decoded(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(content)))


def torchserve_error(code: int, kind: str, message: str = "told") -> bytes:
    return json.dumps({"code": code, "type": kind, "message": message}).encode()


class TestImages:
    @given(
        hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))),
    )
    def test_arrays_arrive_without_loss_in_rgb(self, array: NDArray[np.uint8]) -> None:
        as_rgb = decoded(encode_image(array, array_format="RGB"))
        np.testing.assert_array_equal(as_rgb, array)
        np.testing.assert_array_equal(decoded(encode_image(array)), array[:, :, ::-1])

    @pytest.mark.parametrize("channels", [1, 2, 4])
    def test_other_channels_are_sent_as_they_are(self, channels: int) -> None:
        array = np.arange(6 * channels, dtype=np.uint8).reshape(2, 3, channels)
        sent = decoded(encode_image(array, array_format="bands"))
        np.testing.assert_array_equal(sent, array[:, :, 0] if channels == 1 else array)

    def test_what_may_be_transparency_is_not_sent_by_chance(self) -> None:
        with pytest.raises(InvalidInput, match=r"image\[:, :, :3\].*array_format='bands'"):
            encode_image(np.zeros((4, 6, 4), np.uint8))
        with pytest.raises(InvalidInput, match=r"more than 4 channels.*Open Inference"):
            encode_image(np.zeros((4, 6, 5), np.uint8), array_format="bands")

    def test_bytes_and_files_travel_as_they_are(self, tmp_path: Path) -> None:
        content = b"\xff\xd8 not decoded here"
        (tmp_path / "image.jpg").write_bytes(content)
        assert encode_image(content) == content
        assert encode_image(tmp_path / "image.jpg") == content
        assert encode_image(str(tmp_path / "image.jpg")) == content

    def test_a_pil_image_is_sent_upright(self) -> None:
        sideways = Image.new("RGB", (6, 4))
        exif = sideways.getexif()
        exif[0x0112] = 6  # "rotate by 90 degrees"
        stored = io.BytesIO()
        sideways.save(stored, "JPEG", exif=exif)
        opened = Image.open(stored)
        assert opened.size == (6, 4)
        assert decoded(encode_image(opened)).shape == (6, 4, 3)

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
    def test_every_mode_of_pil_can_be_sent(self, mode: str) -> None:
        assert decoded(encode_image(Image.new(mode, (6, 4)))).shape[:2] == (4, 6)

    @pytest.mark.parametrize(
        ("image", "told"),
        [
            (np.zeros((4, 6, 4), np.uint8), r"shape \(4, 6, 4\)"),
            (np.zeros((4, 6, 3), np.float32), "float32"),
            (np.zeros((0, 6, 3), np.uint8), r"shape \(0, 6, 3\)"),
            (b"", "empty"),
            ("/no/such/file.jpg", r"/no/such/file\.jpg"),
            (12, "int"),
        ],
    )
    def test_what_cannot_be_sent_is_named(self, image: object, told: str) -> None:
        with pytest.raises(InvalidInput, match=told):
            encode_image(image)  # type: ignore[arg-type]

    def test_channel_order_is_bgr_or_rgb(self) -> None:
        with pytest.raises(InvalidInput, match="'BGR', 'RGB' or 'bands'"):
            encode_image(np.zeros((4, 6, 3), np.uint8), array_format="RBG")


class TestReplies:
    def test_a_refused_token_is_400_but_no_rejected_image(self) -> None:
        error = http_error(400, torchserve_error(400, "InvalidKeyException"), NO_TOKEN)
        assert isinstance(error, AuthorizationError)
        assert "no token was given" in str(error)

    @pytest.mark.parametrize(
        ("status", "kind", "expected"),
        [
            (404, "ModelNotFoundException", ModelNotFound),
            (404, "ModelVersionNotFoundException", ModelNotFound),
            (503, "ServiceUnavailableException", ServerOverloaded),
            (503, "InternalServerException", ServerFailed),
            (507, "InternalServerException", ServerFailed),
            (409, "ConflictStatusException", RequestRejected),
        ],
    )
    def test_errors_of_torchserve(self, status: int, kind: str, expected: type[Exception]) -> None:
        error = http_error(status, torchserve_error(status, kind), NO_TOKEN)
        assert type(error) is expected
        assert "told" in str(error)

    def test_a_disabled_model_api_says_how_to_enable_it(self) -> None:
        error = http_error(405, torchserve_error(405, "MethodNotAllowedException"), NO_TOKEN)
        assert isinstance(error, RequestRejected)
        assert "enable_model_api=true" in str(error)

    def test_the_handlers_own_errors_keep_code_message_and_status(self) -> None:
        body = b'{"error": {"code": "too_many_pixels", "message": "9 > 8"}}'
        error = http_error(413, body, NO_TOKEN)
        assert isinstance(error, RequestRejected)
        assert (error.code, error.message, error.status) == ("too_many_pixels", "9 > 8", 413)

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b"\xff"])
    def test_an_answer_that_is_not_torchserves_is_still_an_error(self, body: bytes) -> None:
        assert isinstance(http_error(502, body, NO_TOKEN), ServerFailed)

    def test_a_prediction_is_no_envelope(self) -> None:
        assert envelope_error(b'{"model": "error", "instances": []}', None) is None
        assert envelope_error(b'{"errors": 3}', None) is None


class TestCredentials:
    KEYS = (
        '{"management": {"key": "m", "expiration time": "2020-01-01T00:00:00.123456789Z"},'
        ' "inference": {"key": "i", "expiration time": "2999-01-01T00:00:00Z"},'
        ' "API": {"key": "a"}}'
    )

    def test_each_kind_gets_its_own_key(self, tmp_path: Path) -> None:
        (tmp_path / "key_file.json").write_text(self.KEYS)
        for kind, key in (("inference", "i"), ("management", "m")):
            credentials = Credentials.of(kind, None, tmp_path / "key_file.json")
            assert credentials.headers() == {"authorization": f"Bearer {key}"}

    @pytest.mark.parametrize("content", ["", "[]", '{"inference": {}}', '{"inference": 3}'])
    def test_a_file_that_is_no_key_file_is_named(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "key_file.json").write_text(content)
        with pytest.raises(AuthorizationError, match=r"key_file\.json"):
            Credentials.of("inference", None, tmp_path / "key_file.json").headers()

    def test_token_and_key_file_exclude_each_other(self) -> None:
        with pytest.raises(ValueError, match="not both"):
            Credentials.of("inference", "token", "key_file.json")


class TestConnections:
    def test_a_proxy_of_the_environment_does_not_get_local_requests(self) -> None:
        for local in ("http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"):
            assert httpx_options(Connection("inference", local))["trust_env"] is False
        away = Connection("inference", "http://example.org")
        assert httpx_options(away)["trust_env"] is True

    def test_addresses_may_lack_a_scheme(self) -> None:
        assert with_scheme("127.0.0.1:8080") == "http://127.0.0.1:8080"
        assert with_scheme("https://example.org/") == "https://example.org"


class TestReadinessWatch:
    def test_restarts_without_readiness_are_death(self) -> None:
        watch = ReadinessWatch("shapes")
        for pid in range(1, MAX_STARTS):
            watch.see({"9000": (pid, False)})
        with pytest.raises(Exception, match="keep dying"):
            watch.see({"9000": (MAX_STARTS, False)})

    def test_a_slow_load_and_a_worker_that_was_ready_are_not(self) -> None:
        watch = ReadinessWatch("shapes")
        for _ in range(50):
            watch.see({"9000": (7, False)})
        for pid in range(MAX_STARTS + 2):
            watch.see({"9000": (pid, False)})
            watch.see({"9000": (pid, True)})
        assert "1 of 1 workers are READY" in str(watch.timed_out(3))
