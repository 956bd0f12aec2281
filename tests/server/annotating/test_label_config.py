"""What is read of the labelling configuration of a project."""

from __future__ import annotations

import pytest

from d2serve.client.errors import InvalidInput
from d2serve.server.annotating.label_config import missing_labels, read_controls

CONFIG = """
<View>
  <Image name="photo" value="$picture"/>
  <RectangleLabels name="boxes" toName="photo">
    <Label value="circle"/>
    <Label value="Box" predicted_values="square, rectangle"/>
    <Label value="Three" alias="triangle"/>
  </RectangleLabels>
  <View><KeyPointLabels name="points" toName="photo">
    <Label value="tail" model_index="1"/><Label value="nose" model_index="0"/>
  </KeyPointLabels></View>
  <BrushLabels name="of_no_image" toName="text"><Label value="circle"/></BrushLabels>
  <Choices name="kind" toName="photo"><Choice value="good"/></Choices>
</View>
"""


def test_controls_of_images() -> None:
    boxes, points = read_controls(CONFIG)
    assert (boxes.name, boxes.image_name, boxes.image_key) == ("boxes", "photo", "picture")
    assert boxes.kind == "rectanglelabels"
    assert boxes.labels == {
        "circle": "circle",
        "square": "Box",
        "rectangle": "Box",
        "Box": "Box",
        "Three": "triangle",
        "triangle": "triangle",
    }
    assert points.kind == "keypointlabels"
    assert points.ordered == ("nose", "tail")


def test_keypoints_without_an_index_are_in_the_order_of_the_labels() -> None:
    _, points = read_controls(CONFIG.replace('model_index="1"', ""))
    assert points.ordered == ("tail", "nose")


def test_labels_that_are_missing_are_named() -> None:
    controls = read_controls(CONFIG)
    assert missing_labels(controls, ["circle", "square"]) == []
    assert missing_labels(controls, ["circle", "person"]) == ["person"]
    with pytest.raises(InvalidInput, match=r"finds person, dog, .* labels Box, circle, triangle"):
        missing_labels(controls, ["person", "dog"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("<View><Image name='i' value='$i'/></View>", r"the tags Image, expected an <Image"),
        (CONFIG.replace('"$picture"', '"picture"'), r"expected an <Image name=… value=\"\$…\">"),
        ("<View>", "is not XML"),
        ("", "is not XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><View>&b;</View>', "without them"),
        ("<View>" + " " * 1_000_000 + "</View>", "1000013 characters"),
    ],
)
def test_what_is_no_configuration(config: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_controls(config)
