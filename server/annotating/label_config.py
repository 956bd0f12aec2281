"""The labelling configuration of a Label Studio project: the regions it takes, and their labels.

It is XML, and comes from whoever may reach this backend, so it is read without entities.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from d2serve.client.errors import InvalidInput

RECTANGLES, POLYGONS = "rectanglelabels", "polygonlabels"
BRUSHES, KEYPOINTS = "brushlabels", "keypointlabels"
TAGS = {
    "RectangleLabels": RECTANGLES,
    "PolygonLabels": POLYGONS,
    "BrushLabels": BRUSHES,
    "KeyPointLabels": KEYPOINTS,
}
"""Tags for which there are predictions, and the type of their results."""

_MOST_CHARACTERS = 1_000_000
_VARIABLE = re.compile(r"\$(?P<key>\w+)")
# Expat expands entities of entities without a bound.
_ENTITIES = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)


@dataclass(frozen=True)
class Control:
    """One tag under which regions are drawn."""

    name: str
    """``from_name`` of its results."""
    image_name: str
    """``to_name`` of its results."""
    image_key: str
    """In the ``data`` of a task."""
    kind: str
    """Of its results, one of the values of ``TAGS``."""
    labels: Mapping[str, str]
    """By the model's name of a class, the label that Label Studio has for it."""
    ordered: tuple[str, ...]
    """Labels in the order of ``model_index``, where all have one; otherwise as they are listed."""


def read_controls(config: str) -> list[Control]:
    """The tags of a configuration for which there are predictions.

    Raises:
        InvalidInput: it is no configuration of images with such tags.
    """
    root = _parsed(config)
    images = {
        tag.get("name", ""): found["key"]
        for tag in root.iter("Image")
        if (found := _VARIABLE.fullmatch(tag.get("value", "")))
    }
    controls = [
        _control(tag, kind, image, images[image])
        for tag in root.iter()
        if (kind := TAGS.get(tag.tag)) and (image := tag.get("toName", "")) in images
    ]
    if not controls:
        raise InvalidInput(
            f"The labelling configuration has the tags {', '.join(_tags(root)) or '(none)'}, "
            f'expected an <Image name=… value="$…"> and, with its name as toName, one of '
            f"{', '.join(f'<{tag}>' for tag in TAGS)}."
        )
    return controls


def missing_labels(controls: Sequence[Control], names: Sequence[str]) -> list[str]:
    """Names of classes that no tag but that of keypoints has a label for.

    Raises:
        InvalidInput: there is a label for none of them.
    """
    regions = [each for each in controls if each.kind != KEYPOINTS]
    missing = [name for name in names if not any(name in each.labels for each in regions)]
    if regions and len(missing) == len(names):
        labels = {label for each in regions for label in each.labels.values()}
        raise InvalidInput(
            f"The model finds {', '.join(names)}, and the labelling configuration has the labels "
            f"{', '.join(sorted(labels)) or '(none)'}: expected one at least that both have. "
            "Rename the labels, or say which class a label stands for: "
            f'<Label value="…" predicted_values="{names[0]}"/>.'
        )
    return missing


def _parsed(config: str) -> ElementTree.Element:
    if len(config) > _MOST_CHARACTERS or _ENTITIES.search(config):
        raise InvalidInput(
            f"The labelling configuration has {len(config)} characters, or a document type with "
            f"entities: expected XML of up to {_MOST_CHARACTERS} characters without them."
        )
    try:
        return ElementTree.fromstring(config)
    except ElementTree.ParseError as error:
        raise InvalidInput(
            f"The labelling configuration is not XML ({error}), expected what Label Studio shows "
            "under Labeling Interface, Code."
        ) from error


def _control(tag: ElementTree.Element, kind: str, image: str, key: str) -> Control:
    labels: dict[str, str] = {}
    indices: dict[str, int] = {}
    for label in tag.iter("Label"):
        shown = label.get("alias") or label.get("value") or ""
        # Label Studio's own backends read the classes of a label from this attribute.
        said = label.get("predicted_values") or label.get("value") or ""
        labels.update({name.strip(): shown for name in said.split(",") if name.strip()})
        labels.setdefault(label.get("value") or "", shown)
        labels.setdefault(shown, shown)
        index = label.get("model_index", "")
        indices[shown] = int(index) if index.isdecimal() else -1
    ordered = list(indices)
    if all(index >= 0 for index in indices.values()):
        ordered.sort(key=indices.__getitem__)
    return Control(tag.get("name", ""), image, key, kind, labels, tuple(ordered))


def _tags(root: ElementTree.Element) -> list[str]:
    return sorted({tag.tag for tag in root.iter() if tag.get("toName") or tag.tag == "Image"})
