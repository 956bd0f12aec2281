"""Takes the module and the line out of TorchScript's errors, which are pages long."""

from __future__ import annotations

import re

from d2serve.export.failures import line_of

_SCRIPT_PLACE = re.compile(r'File "([^"]+)", line (\d+)')
_COMPILED_FOR = re.compile(r"'([\w.]+)' is being compiled since")


def where_in_script(error: BaseException) -> str:
    """``"at FILE:LINE, compiled for MODULE: "`` of a scripting error, as far as it tells."""
    text = str(error)
    place = _SCRIPT_PLACE.search(text)
    callers = _COMPILED_FOR.findall(text)
    parts = [f"at {place.group(1)}:{place.group(2)}"] if place else []
    if callers:
        parts.append(f"in what {callers[0].replace('__torch__.', '')} calls")
    return f"{', '.join(parts)}: " if parts else ""


def where_in_user_code(error: BaseException) -> str:
    """``"at FILE:LINE in FUNCTION: "`` of the model's line in an error's traceback."""
    place = line_of(error)
    return f"at {place}: " if place else ""
