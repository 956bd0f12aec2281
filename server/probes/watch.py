"""What a probe is answered, from the first moment of a server to the last.

TorchServe is asked when somebody probes, and at most twice a second; any number of probes wait for
the same answer. If none comes, they wait no longer than a prober does, and not at all from then on:
TorchServe is then asked again and again until it answers.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from d2serve.client.errors import ClientError, ServerUnavailable
from d2serve.server.probes.judging import ReadinessJudge
from d2serve.server.probes.looking import dead_process
from d2serve.server.probes.verdicts import YES, Verdict, no, of
from d2serve.server.torchserve.models_look import ModelLook
from d2serve.server.torchserve.process import TorchServeProcess

_FRESH_SECONDS = 0.5
"""For so long an answer of TorchServe is passed on."""
_KNOWN_SECONDS = 5.0
"""For so long it counts while TorchServe does not answer: a busy machine may be that slow."""
_WAIT_SECONDS = 0.8
"""Kubernetes' own timeout of a probe is a second."""
HANG_SECONDS = 60.0
"""A Java that has answered nobody for so long does not come back by itself."""


class ServerWatch:
    """Answers for one server: ``starting``, then ``serving``, then ``stopping``.

    These three may be called from any thread, the others from the event loop of the probes only.
    """

    def __init__(self, hang_seconds: float = HANG_SECONDS) -> None:
        self._hang_seconds = hang_seconds
        self._not_serving: str | None = "starting"
        self._asked: _AskedServer | None = None

    def starting(self, stage: str) -> None:
        """The server is on its way; ``stage`` says how far it is, in a few words."""
        self._not_serving = f"starting: {stage}"

    def serving(self, server: TorchServeProcess) -> None:
        """The server has been started, and all it is to serve is READY. Asks it for the first
        time, before any probe is answered by it."""
        self._asked = _AskedServer(server)
        self._not_serving = None

    def stopping(self) -> None:
        """The server is being stopped by us; a server that has ended by itself stays dead."""
        if self._asked is not None and dead_process(self._asked.server) is None:
            self._not_serving = "stopping"

    def close(self) -> None:
        """Ask no more."""
        if self._asked is not None:
            self._asked.close()

    def live(self) -> Verdict:
        """Whether the processes run and TorchServe has not been silent for a minute. At once."""
        asked = self._asked
        if asked is None or self._not_serving is not None:
            return YES
        dead = dead_process(asked.server)
        if dead is not None:
            return no(dead)
        asked.ask_soon()
        silent = asked.silent_seconds()
        return no(_silence(silent)) if silent >= self._hang_seconds else YES

    async def ready(self) -> Verdict:
        """Whether requests can be answered."""
        asked = self._asked
        if asked is not None and self._known_not() is None:
            await asked.wait()
        known = self._known_not()  # it may have begun to stop meanwhile
        if known is not None or asked is None:
            return no(known or "starting")
        return asked.verdict()

    def _known_not(self) -> str | None:
        """Why the server is not ready, as far as nobody has to be asked."""
        asked, not_serving = self._asked, self._not_serving
        if not_serving is not None or asked is None:
            return not_serving
        if asked.server.is_draining:
            return "draining"
        return dead_process(asked.server)


class _AskedServer:
    """A server that has been started, and the last that it said."""

    def __init__(self, server: TorchServeProcess) -> None:
        self.server = server
        self._look = ModelLook(server)
        self._judge = ReadinessJudge(needs_a_model=bool(server.models))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="probes")
        self._asking: asyncio.Task[None] | None = None
        self._answered = time.monotonic()
        """When the question was asked that was answered last."""
        verdict = self._said()
        self._verdict = verdict or no("starting")
        self._unanswered: float | None = None
        """When the first question was asked that is not answered; None where all were."""
        self._is_closed = False

    def close(self) -> None:
        self._is_closed = True
        self._thread.shutdown(cancel_futures=True)
        self._look.close()

    def silent_seconds(self) -> float:
        """How long TorchServe has left a question unanswered."""
        return 0.0 if self._unanswered is None else time.monotonic() - self._unanswered

    def verdict(self) -> Verdict:
        """By the last answer, unless that was long ago."""
        if time.monotonic() - self._answered > _KNOWN_SECONDS:
            return no(_silence(self.silent_seconds()))
        return self._verdict

    async def wait(self) -> None:
        """Return when there is a fresh answer, or none is to be expected soon."""
        asking = self.ask_soon()
        if asking is None:
            return
        patience = _WAIT_SECONDS - self.silent_seconds()
        if patience > 0:
            await asyncio.wait([asking], timeout=patience)

    def ask_soon(self) -> asyncio.Task[None] | None:
        """Begin to ask unless that is under way; None if the last answer is fresh."""
        if self._asking is None or self._asking.done():
            if self._is_closed or time.monotonic() - self._answered < _FRESH_SECONDS:
                return None
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return self._asking

    async def _ask(self) -> None:
        """Ask until there is an answer."""
        loop = asyncio.get_running_loop()
        while not self._is_closed:
            asked = time.monotonic()
            self._unanswered = self._unanswered or asked
            verdict = await loop.run_in_executor(self._thread, self._said)
            if verdict is not None:
                self._verdict, self._answered, self._unanswered = verdict, asked, None
                return
            await asyncio.sleep(_FRESH_SECONDS)

    def _said(self) -> Verdict | None:
        """What TorchServe's answer means; None if there was none."""
        try:
            return of(self._judge.reasons(self._look.states()))
        except ServerUnavailable:
            return None
        except ClientError as error:
            # Its words are for whoever holds the token: they may name files.
            return no(f"TorchServe's management API does not say ({type(error).__name__})")


def _silence(seconds: float) -> str:
    return f"TorchServe's management API has not answered for {seconds:.1f} s"
