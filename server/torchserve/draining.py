"""Waits until a TorchServe has answered what it was asked, so that it can be stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Callable

from d2serve.client.draining import Drain, Load
from d2serve.client.errors import ModelNotFound, ServerUnavailable
from d2serve.client.management import ALL_VERSIONS, ManagementClient

_PAUSE_SECONDS = 0.2


def drain(
    management: ManagementClient,
    seconds: float,
    is_running: Callable[[], bool],
    on_load: Callable[[Load], None],
) -> bool:
    """Wait until every version of every model is idle, also of those registered meanwhile.

    Args:
        management: of the server.
        seconds: that this may take.
        is_running: returns whether TorchServe's process still runs.
        on_load: is called with what is still to be done, whenever that was asked.

    Returns: whether all are idle; False where the time is over or TorchServe has ended.
    """
    deadline = time.monotonic() + seconds

    def served() -> Iterator[tuple[str, str | None]]:
        for name in management.list_models():
            yield name, ALL_VERSIONS

    while is_running() and time.monotonic() < deadline:
        try:
            return Drain(management, deadline - time.monotonic(), on_load).wait(served)
        except (ModelNotFound, ServerUnavailable):  # removed since it was listed; or no answer
            time.sleep(_PAUSE_SECONDS)
    return False
