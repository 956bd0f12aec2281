"""Whether a program is to run Winograd's convolutions: as chosen, verified and installed."""

from __future__ import annotations

from d2serve.handlers.errors import LoadError
from d2serve.handlers.spec.convolution import AUTO, DIRECT, SETTING, WINOGRAD, is_automatic
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.runtimes import FP32


def winograd_is_wanted(spec: ModelSpec, choice: str, device: str = "cpu") -> bool:
    """Whether a program's convolutions are to be replaced, as far as they fit.

    Args:
        spec: the program's.
        choice: one of CONVOLUTIONS.
        device: where it is to run.

    Raises:
        LoadError: they are asked for by name, but for a GPU, or the native code is not installed
            here.
    """
    if choice == DIRECT or spec.precision != FP32:
        return False
    if device != "cpu":
        if choice == WINOGRAD:
            raise LoadError(
                f"{SETTING} is {WINOGRAD}, but the program is to run on {device}, and Winograd's "
                f"convolutions run on the CPU. Set {SETTING} to {AUTO}, or start TorchServe "
                "without GPUs (number_of_gpu=0)."
            )
        return False
    if choice == AUTO and not is_automatic(spec.runtime, spec.verification):
        return False
    if _is_installed():
        return True
    if choice == WINOGRAD:
        raise LoadError(
            f"{SETTING} is {WINOGRAD}, but d2serve's native code is not in the server's Python. "
            "Install d2serve there on a machine with a C++ compiler, or a wheel that was built on "
            f"one; or set {SETTING} to {AUTO}, which runs without it."
        )
    return False


def _is_installed() -> bool:
    try:
        from d2serve.kernels.library import library
    except ImportError:  # an archive brings the handlers, but not the kernels
        return False
    return library() is not None
