"""Whether an environment has a detectron2, and what of it works.

`import detectron2` succeeds where nothing else does: its model zoo needs pkg_resources, which
setuptools dropped, and its compiled part loads only beside the torch that it was compiled for.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

_REDISTRIBUTION = "sal-detectron2"
_LOOK = """
import importlib.metadata, importlib.util, json
def failure(statement):
    try:
        exec(statement)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
there = importlib.util.find_spec("detectron2")
names = importlib.metadata.packages_distributions().get("detectron2", []) if there else []
if there and "detectron2" not in names:  # packages_distributions misses editable installations
    try:
        importlib.metadata.version("detectron2")
        names = ["detectron2"]
    except importlib.metadata.PackageNotFoundError:
        pass
name = names[0] if names else None
print(json.dumps(there and {
    "distribution": name,
    "version": importlib.metadata.version(name) if name else None,
    "model_zoo": failure("from detectron2 import model_zoo"),
    "compiled": failure("import torch, detectron2._C"),
}))
"""


@dataclass(frozen=True)
class Detectron2:
    """The detectron2 of an environment.

    Attributes:
        distribution: the package that brought it, None where it is a folder on the path.
        version: of that package.
        model_zoo: why `from detectron2 import model_zoo` fails; None where it works.
        compiled: the same for its compiled operators, `detectron2._C`.
    """

    distribution: str | None
    version: str | None
    model_zoo: str | None
    compiled: str | None

    @property
    def is_users_own(self) -> bool:
        """It is not the redistribution that `make` installs where there is none."""
        return self.distribution != _REDISTRIBUTION

    def __str__(self) -> str:
        return f"detectron2 {self.version}" if self.version else "detectron2"


def installed_detectron2() -> Detectron2 | None:
    """The detectron2 of this interpreter's environment, as a new process finds it; None without."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _LOOK], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"Python cannot look for detectron2:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Detectron2(**found) if found else None


def broken_since(before: Detectron2, after: Detectron2 | None) -> str | None:
    """What worked before and does not now, a clause; None where nothing broke."""
    if after is None:
        return "it is gone"
    if before.model_zoo is None and after.model_zoo is not None:
        return f"its model zoo fails with {after.model_zoo}"
    if before.compiled is None and after.compiled is not None:
        return f"its compiled operators fail with {after.compiled}"
    return None
