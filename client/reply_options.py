"""Why: what a caller may ask of a reply is checked once, before anything is sent, for every client.

Without such a wish the image alone travels, as the raw body, as it always did.
"""

from __future__ import annotations

from d2serve.client.errors import InvalidInput

_SEM_SEG_FORMATS = ("png", "rle")


def reply_options(sem_seg: str) -> dict[str, bytes]:
    """What is sent beside the image, by field name; nothing where it is the server's default.

    ``sem_seg`` is "png", one label map, or "rle", COCO's run lengths for each class.
    """
    if sem_seg not in _SEM_SEG_FORMATS:
        raise InvalidInput(
            f"sem_seg is {sem_seg!r}: expected 'png' (one label map) or 'rle' (run lengths for "
            "each class)."
        )
    return {} if sem_seg == "png" else {"sem_seg": sem_seg.encode("ascii")}
