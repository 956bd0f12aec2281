"""Why: a picture comes back without JSON around it, and must be told from anything else."""

from __future__ import annotations

from d2serve.client.errors import MalformedReply

_STARTS = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff"}


def parse_picture(reply: bytes, picture_format: str) -> bytes:
    """The reply itself, if it is an image file of this format; else raises MalformedReply."""
    if reply.startswith(_STARTS[picture_format]):
        return reply
    raise MalformedReply(
        f"The reply is no {picture_format.upper()} file: it begins with {reply[:40]!r}. Is the "
        "model behind this address a .mar made by d2serve, of a version that draws? Export it "
        "again with this one."
    )
