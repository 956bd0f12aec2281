"""How many threads torch takes within an operator, whichever thread calls it."""

from __future__ import annotations

import torch


class TorchThreads:
    """A number of threads, which is torch's from when it is made."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self.use()

    def use(self) -> None:
        """Before a call: torch keeps the number for each thread that calls it, and a new one gets
        what was set last."""
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
