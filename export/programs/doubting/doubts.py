"""Notices where a trace makes a constant of what depends on the image: a doubt about the program.

``if len(instances) > 40`` runs while the model is traced, and the program keeps the branch that it
took. The tracer warns of some of this; where, it does not always say, and ``range(n)`` or
``torch.equal`` it passes in silence. So the ways from a tensor to a Python value are watched here.
"""

from __future__ import annotations

import functools
import linecache
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import torch
from torch.jit import _builtins
from torch.jit._trace import TracerWarning

from d2serve.export.programs.doubting.comparisons import only_ends, thresholds
from d2serve.export.programs.doubting.harmless import is_harmless

_METHODS = (
    *("__bool__", "__int__", "__float__", "__complex__", "__index__"),
    *("item", "tolist", "numpy", "is_nonzero", "equal", "allclose", "new_tensor"),
)
_FUNCTIONS = ("equal", "allclose", "is_nonzero", "tensor", "as_tensor")
# Whoever calls them decides.
_LIBRARIES = frozenset({"torch", "numpy", *sys.stdlib_module_names}) - {"__main__"}
_KNOWN = ("detectron2", "d2serve", "torchvision", "fvcore")
# They only write a value down.
_WRITING = ("Tensor.__format__", "Tensor.__repr__")


@dataclass(frozen=True)
class Doubt:
    """A place where a trace made a constant of something that depends on the image."""

    place: str
    """FILE:LINE."""
    source: str
    """The line that stands there."""
    thresholds: tuple[float, ...] = ()
    """Numbers that something is compared with in that function."""

    def __str__(self) -> str:
        return f"{self.place} ({self.source})" if self.source else self.place


@contextmanager
def watching(root: CodeType) -> Iterator[list[Doubt]]:
    """Collect the doubts about a trace that is made within.

    Args:
        root: code of the function that is traced, which keeps its arguments as they are.
    """
    found: dict[str, Doubt] = {}

    def notice(values: tuple[object, ...]) -> None:
        frames = _frames_below(root)
        if frames is None:
            return
        given, running = frames
        if any(_comes_from(given, tensor) for tensor in _tensors(values)):
            doubt = _judged(running)
            if doubt is not None:
                found.setdefault(doubt.place, doubt)

    noticed: list[Doubt] = []
    with warnings.catch_warnings(), _watched(notice):
        warnings.simplefilter("ignore", TracerWarning)  # of the same, without the line
        yield noticed
    noticed += found.values()


@contextmanager
def _watched(notice: Callable[[tuple[object, ...]], None]) -> Iterator[None]:
    places: list[tuple[Any, str]] = [(torch.Tensor, name) for name in _METHODS]
    places += [(torch, name) for name in _FUNCTIONS]
    before = [(holder, name, vars(holder).get(name)) for holder, name in places]
    scripted: dict[int, str] = vars(_builtins)["_get_builtin_table"]()
    watchers: list[int] = []
    for holder, name in places:
        real = getattr(holder, name)
        watcher = _noticing(real, notice)
        setattr(holder, name, watcher)
        if id(real) in scripted:  # TorchScript knows functions by their id
            scripted[id(watcher)] = scripted[id(real)]
            watchers.append(id(watcher))
    try:
        yield
    finally:
        for each in watchers:
            del scripted[each]
        for holder, name, own in before:
            if own is None:
                delattr(holder, name)  # it is inherited
            else:
                setattr(holder, name, own)


def _noticing(real: Callable[..., Any], notice: Callable[[tuple[object, ...]], None]) -> Any:
    @functools.wraps(real)
    def noticing(*args: Any, **keywords: Any) -> Any:
        if torch._C._get_tracing_state() is not None:
            # Of `x.new_tensor(values)`, x gives no more than its type.
            notice(args[1:] if real.__name__ == "new_tensor" else args)
        return real(*args, **keywords)

    return noticing


def _frames_below(root: CodeType) -> tuple[list[torch.Tensor], list[FrameType]] | None:
    """What the traced function was given, and what runs below it, innermost first."""
    running: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is root:
            given = (frame.f_locals[name] for name in root.co_varnames[: root.co_argcount])
            return [each for each in given if type(each) is torch.Tensor], running
        running.append(frame)
        frame = frame.f_back
    return None


def _tensors(values: object) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for each in values:
            yield from _tensors(each)


def _comes_from(given: list[torch.Tensor], tensor: torch.Tensor) -> bool:
    """Whether a tensor depends on what was given in the graph, and not on weights alone."""
    value_of = vars(torch._C)["_get_value_trace"]
    sources = {value_of(each).unique() for each in given}
    seen: set[int] = set()
    left = [value_of(tensor)]
    while left:
        value = left.pop()
        if value.unique() in sources:
            return True
        if value.unique() not in seen:
            seen.add(value.unique())
            left += value.node().inputs()
    return False


def _judged(running: list[FrameType]) -> Doubt | None:
    """The doubt that follows from what runs, innermost first; None where it is harmless."""
    for index, frame in enumerate(running):
        module, code = _module_of(frame), frame.f_code
        if module == __name__:
            continue
        if code.co_qualname in _WRITING or is_harmless(module, code) or only_ends(frame):
            return None
        if module.partition(".")[0] in _LIBRARIES:
            continue
        return _doubt_at(frame, running[index:])
    return None


def _doubt_at(frame: FrameType, callers: list[FrameType]) -> Doubt:
    file, line = frame.f_code.co_filename, frame.f_lineno
    source = linecache.getline(file, line).strip()
    if _module_of(frame).partition(".")[0] in _KNOWN:  # what of the user's calls it?
        own = next((f for f in callers if _is_the_users(f)), None)
        if own is not None:
            source += f", called at {own.f_code.co_filename}:{own.f_lineno}"
    return Doubt(f"{file}:{line}", source, thresholds(frame))


def _is_the_users(frame: FrameType) -> bool:
    name = _module_of(frame).partition(".")[0]
    return name not in _LIBRARIES and name not in _KNOWN


def _module_of(frame: FrameType) -> str:
    # A LazyConfig's file runs without a name.
    return str(frame.f_globals.get("__name__", ""))
