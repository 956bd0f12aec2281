"""What counts as a trace, by the standard's own examples, and what must never reach a log."""

from __future__ import annotations

import pytest

from d2serve.handlers.requests.request import Request, classify
from d2serve.handlers.requests.tracing import Trace, trace_of

ID, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{ID}-{SPAN}-01"


@pytest.mark.parametrize(
    "value",
    [
        VALID,
        f"00-{ID}-{SPAN}-00",
        f" {VALID} ",
        f"cc-{ID}-{SPAN}-01",  # of a later version
        f"cc-{ID}-{SPAN}-01-what-the-future-will-be-like",
    ],
)
@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_a_trace(name: str, value: str) -> None:
    assert trace_of({"host": "x", name: value}) == Trace(ID, SPAN)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        ID,
        f"ff-{ID}-{SPAN}-01",
        f"00-{ID}-{SPAN}-01-more",
        f"00-{ID}-{SPAN}-1",
        f"00-{ID}-{SPAN}-0x",
        f"00-{ID}-{SPAN}",
        f"cc-{ID}-{SPAN}-01.",
        f"0-{ID}-{SPAN}-01",
        f"00-{ID.upper()}-{SPAN}-01",
        f"00-{ID[1:]}-{SPAN}-01",
        f"00-{ID}-{SPAN}a-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID[:-1]}٣-{SPAN}-01",  # a digit, and none of ours
        f"00-{ID}-{SPAN}-01\n[METRICS]x:1",
        f"cc-{ID}-{SPAN}-01-\nd2serve: forged",
        f"{VALID}, {VALID}",
        "x" * 8000,
    ],
)
def test_what_is_no_trace_is_ignored(value: str) -> None:
    assert trace_of({"traceparent": value}) is None


def test_a_trace_that_is_given_twice_is_none() -> None:
    assert trace_of({"traceparent": VALID, "Traceparent": VALID}) is None


def test_a_request_carries_it() -> None:
    assert classify(Request(b"x", headers={"traceparent": VALID})).trace == Trace(ID, SPAN)
    assert classify(Request(b"x")).trace is None
