"""Plans which images of a batch share one call: only where the program and the device gain from it.

Most programs take one image, and a CPU is busy with one image already. A batch that is asked for
all the same is answered image by image, correctly.
"""

from __future__ import annotations

from d2serve.handlers.errors import LoadError

MODES = ("auto", "always", "never")


class BatchPlanner:
    """Decides which images of a request batch go through the program together."""

    def __init__(self, mode: str, dynamic_batch: bool, on_gpu: bool) -> None:
        """
        Args:
            mode: ``batching`` of the model's YAML: auto, always or never.
            dynamic_batch: whether the program takes several images, from the spec.
            on_gpu: whether it runs on a GPU.

        Raises:
            LoadError: unknown mode, or ``always`` for a program that takes one image.
        """
        if mode not in MODES:
            raise LoadError(f"batching is {mode!r}, expected one of {', '.join(MODES)}.")
        if mode == "always" and not dynamic_batch:
            raise LoadError(
                "batching is 'always', but this program takes one image at a time. Use 'auto', or "
                "export with `--dynamic-batch` (see `d2serve export --help`)."
            )
        self.together = dynamic_batch and (mode == "always" or (mode == "auto" and on_gpu))

    def plan(self, count: int) -> list[list[int]]:
        """Indices 0 to ``count`` - 1 in groups, each one call of the program."""
        if count == 0:
            return []
        if self.together:
            return [list(range(count))]
        return [[index] for index in range(count)]
