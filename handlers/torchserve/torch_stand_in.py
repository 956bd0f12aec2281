"""A module that takes the place of torch in workers that serve a model without it.

TorchServe's worker imports torch for nothing but to recognise a tensor among the replies. That
costs each worker over a second and more than a hundred megabytes, and asks for torch on servers
that serve ONNX only. An archive whose program needs no torch carries this file as ``torch.py`` in
its root, which a worker finds before an installed torch.
See docs/decisions/0004-workers-without-torch.md.
"""

from __future__ import annotations

from typing import NoReturn


class Tensor:
    """What no reply of ours is an instance of (ts/protocol/otf_message_handler.py asks)."""


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(
        f"torch.{name} was asked for in a worker that serves a model without torch. If code of "
        "yours needs torch there, export the model with --format torchscript."
    )
