"""Limits that an operator sets in an archive's model-config.yaml, on a server that runs."""

from __future__ import annotations

import httpx
import pytest
from PIL import Image

from tests.handlers.samples import saved
from tests.robustness.conftest import LIMITS
from tests.robustness.sending import Sender, grey, refusal

pytestmark = pytest.mark.server


def test_they_are_what_is_refused_above(sender: Sender) -> None:
    most = saved(Image.new("RGB", (40, 30)), "PNG")
    assert sender.image(most, "limited").status_code == 200
    more = saved(Image.new("RGB", (40, 31)), "PNG")
    message = refusal(sender.image(more, "limited"), 413, "image_too_large")
    assert "40x31 pixels, expected at most 1,200" in message
    padded = most + bytes(LIMITS["max_image_bytes"] + 1 - len(most))
    message = refusal(sender.image(padded, "limited"), 413, "image_too_large")
    assert "5,001 bytes, expected at most 5,000" in message
    assert sender.image(padded[:-1], "limited").status_code == 200
    message = refusal(sender.form(most, "limited", max_detections="4"), 400, "invalid_option")
    assert "1 to 3" in message
    for accepted in (more, padded):
        assert sender.image(accepted).status_code == 200, "by the same program without them"


def test_a_wrong_one_refuses_the_archive_and_no_other_model_suffers(sender: Sender) -> None:
    server = sender.server
    token = {"Authorization": f"Bearer {server.management_token}"}
    with httpx.Client(
        base_url=server.management_address, headers=token, timeout=120, trust_env=False
    ) as management:
        wish = {"url": "wrong_limits.mar", "initial_workers": "1", "synchronous": "true"}
        response = management.post("/models", params=wish)
        assert response.status_code >= 500, response.text
        assert sender.image(grey(51)).status_code == 200
        assert "wrong_limits" not in management.get("/models").text
    told = (server.log_directory / "model_log.log").read_text()
    assert "max_image_pixels is 'many', expected a whole number from 1 to 178956970" in told
