"""The request options: what a client may ask for beside its image.

``OPTIONS`` is the one description of each. How a value is read, what a message about it says, the
model's metadata and the table in docs/requests.md follow from it; the fields of ``RequestOptions``,
the clients' arguments and the command line are held to it by tests.

Every option may come over every transport: as a form field, in JSON beside ``image``, in the header
``X-D2serve-NAME``, as an input of a gRPC call, as a parameter or input of a call of the Open
Inference Protocol, or as a Python value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from d2serve.handlers.errors import InvalidOption
from d2serve.handlers.requests.option_values import (
    Reader,
    one_of,
    read_classes,
    read_max_detections,
    read_score_thresh,
)
from d2serve.handlers.spec.model_spec import ModelSpec

PNG, RLE, POLYGON, NONE, JPEG = "png", "rle", "polygon", "none", "jpeg"
JSON_LISTS, BASE64 = "json", "base64"

_JSON_TYPES = {float: "number", int: "integer", list: "array", str: "string"}


@dataclass(frozen=True)
class Option:
    """One thing that a client may ask for."""

    name: str
    type: type
    """Of its value in Python; a list holds names (str) and ids (int)."""
    allowed: str
    """Its values, in words."""
    default: str
    """What holds without it, in words."""
    help: str
    """What it does, in one sentence."""
    read: Reader
    choices: Mapping[str, str]
    """Of a word, those that there are and what each means; empty for other types."""

    def described(self) -> dict[str, Any]:
        """What the model's metadata say of it."""
        said: dict[str, Any] = {"type": _JSON_TYPES[self.type], "values": self.allowed}
        if self.choices:
            said["choices"] = list(self.choices)
        return {**said, "default": self.default, "help": self.help}


def _of_words(name: str, choices: dict[str, str], default: str, help: str) -> Option:
    allowed = ", ".join(f"{word} ({meaning})" for word, meaning in choices.items())
    return Option(name, str, allowed, default, help, one_of(tuple(choices)), choices)


OPTIONS = (
    Option(
        "score_thresh",
        float,
        "the model's own threshold or more, up to 1",
        "the model's own",
        "Leave out instances of this score and below.",
        read_score_thresh,
        {},
    ),
    Option(
        "max_detections",
        int,
        "1 to the archive's limit",
        "the archive's limit",
        "Keep so many instances, or proposals, those of the highest scores.",
        read_max_detections,
        {},
    ),
    Option(
        "classes",
        list,
        "names or ids: a JSON list, or text with commas",
        "all",
        "Leave out instances of other classes.",
        read_classes,
        {},
    ),
    _of_words(
        "masks",
        {
            RLE: "COCO's run lengths",
            POLYGON: "COCO's outlines, with holes filled",
            NONE: "no masks",
        },
        RLE,
        "How the masks of instances are written.",
    ),
    _of_words(
        "sem_seg",
        {PNG: "one label map", RLE: "run lengths for each class"},
        PNG,
        "How the class of each pixel is written.",
    ),
    _of_words(
        "extra",
        {
            JSON_LISTS: "numbers and lists of them",
            BASE64: "an array as its little-endian bytes, float32 as it is in numpy",
            NONE: "left out",
        },
        JSON_LISTS,
        "How fields of the model's own are written, such as embeddings.",
    ),
    _of_words(
        "draw",
        {PNG: "without loss", JPEG: "smaller"},
        "JSON",
        "Answer with a picture that has what was found drawn onto it.",
    ),
)
"""In the order in which they are shown."""

NAMES = tuple(option.name for option in OPTIONS)
_OPTION = {option.name: option for option in OPTIONS}


@dataclass(frozen=True)
class RequestOptions:
    """How one request is to be answered: a field for each of ``OPTIONS``, read and checked."""

    score_thresh: float | None = None
    """None is the model's own."""
    max_detections: int | None = None
    """None is the limit of the archive."""
    classes: frozenset[int] | None = None
    """Ids; None is all."""
    masks: str = RLE
    sem_seg: str = PNG
    extra: str = JSON_LISTS
    draw: str | None = None
    """None is JSON."""

    @staticmethod
    def parse(options: Mapping[str, Any], spec: ModelSpec) -> RequestOptions:
        """The options of a request, by name; one that is None is not given.

        Args:
            options: text, bytes (as forms and gRPC have them), what JSON has or Python values.
            spec: the model's.

        Raises:
            InvalidOption: one does not exist, or has a value that it cannot have.
        """
        if not options:
            return DEFAULT_OPTIONS
        for name in options:
            if name not in _OPTION:
                raise InvalidOption(
                    f"Got the option {_shown(name)}, which does not exist. Options are "
                    f"{', '.join(NAMES)}; leave out every other field."
                )
        return RequestOptions(
            **{
                name: _OPTION[name].read(name, _without_bytes(value), spec)
                for name, value in options.items()
                if value is not None
            }
        )


DEFAULT_OPTIONS = RequestOptions()


def _without_bytes(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", errors="replace")
    return value


def _shown(name: object) -> str:
    text = ascii(name)
    return text if len(text) <= 40 else text[:40] + "..."
