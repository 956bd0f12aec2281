"""Bodies that TorchServe takes for a form, because their sender said so or said nothing.

Of a body of ``application/x-www-form-urlencoded`` TorchServe hands over pieces: it cuts at ``&``
and ``=`` and makes a blank of each ``+``. Of an image file, where it does not answer 500 by itself,
nothing is left that could be put together again. A JSON object can be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_IMAGE = re.compile(r'("image"\s*:\s*")([^"]*)')


def json_of(fields: Mapping[Any, Any]) -> bytes | None:
    """The JSON object that was taken for a form, as it was sent; None if there was none.

    Args:
        fields: the form's, by name, in their order.
    """
    first = next(iter(fields), None)
    if not isinstance(first, str) or not first.lstrip().startswith("{"):
        return None
    # Without a value there was no "=", since JSON ends with another letter.
    pieces = (f"{name}={_text(value)}" if value else str(name) for name, value in fields.items())
    # Base64 has no blanks: each was a "+".
    text = _IMAGE.sub(lambda found: found[1] + found[2].replace(" ", "+"), "&".join(pieces))
    return text.encode("utf-8", "replace")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")
