"""Packages of others that a result can be given to, imported when they are asked for.

They are loaded by name, as plug-ins: clients depend on none of them, and only who has one already
has a use for what is made with it.
"""

from __future__ import annotations

import importlib
from typing import Any

from d2serve.client.errors import PackageUnavailable


def load(
    module: str, used_by: str, advice: str, error: type[PackageUnavailable] = PackageUnavailable
) -> Any:
    """Import a module.

    Args:
        module: its full name.
        used_by: the method that needs it, and what that makes with it: the start of a sentence.
        advice: what to install, and what there is without it.
        error: to raise.

    Raises:
        error: it cannot be imported here.
    """
    try:
        return importlib.import_module(module)
    except ImportError as reason:
        raise error(
            f"{used_by}, and {module} cannot be imported here ({reason}). {advice}"
        ) from reason
