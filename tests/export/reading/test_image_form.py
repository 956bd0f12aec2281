"""What images a model takes is found before any work: by its means, its format and what it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2serve.export.doctor import examine
from d2serve.export.errors import ConfigError, UnsupportedFamily, WeightsError
from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.image_form import image_form_of
from d2serve.export.reading.weights import build_model, load_model
from d2serve.handlers.spec.image_form import ImageForm
from d2serve.handlers.spec.runtimes import RUNTIMES
from tests.channels import with_channels
from tests.conftest import config_of
from tests.ways import ON_A_CPU


def form_of(config: str, *overrides: str) -> ImageForm:
    read = load_config(ConfigSource(config, overrides))
    return image_form_of(build_model(read), read)


def means(channels: int) -> list[str]:
    values = str([100.0] * channels)
    return ["MODEL.PIXEL_MEAN", values, "MODEL.PIXEL_STD", values]


@pytest.mark.parametrize("model", ["mask_rcnn_fpn", "retinanet", "semantic_fpn", "rpn_fpn"])
@pytest.mark.parametrize(
    ("channels", "image_format", "expected"),
    [
        (1, "BGR", ImageForm("L", 1)),
        (1, "L", ImageForm("L", 1)),
        (2, "BGR", ImageForm("bands", 2)),
        (3, "RGB", ImageForm("RGB", 3)),
        (3, "BGR", ImageForm("BGR", 3)),
        (3, "L", ImageForm("L", 1)),  # the means of three colours make three of a grey one
        (4, "RGB", ImageForm("bands", 4)),
        (4, "RGBA", ImageForm("RGBA", 4)),
        (12, "BGR", ImageForm("bands", 12)),
    ],
)
def test_of_a_yaml(model: str, channels: int, image_format: str, expected: ImageForm) -> None:
    found = form_of(str(config_of(model)), "INPUT.FORMAT", image_format, *means(channels))
    assert found == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), ImageForm("BGR", 3)),
        (("model.pixel_mean=[110.0]", "model.pixel_std=[60.0]"), ImageForm("BGR", 3)),
        (
            (
                "model.pixel_mean=[110.0]",
                "model.pixel_std=[60.0]",
                "model.backbone.bottom_up.stem.in_channels=1",
            ),
            ImageForm("L", 1),
        ),
        (
            (
                "model.pixel_mean=[1.0,2.0,3.0,4.0,5.0]",
                "model.pixel_std=[60.0,60.0,60.0,60.0,60.0]",
                "model.backbone.bottom_up.stem.in_channels=5",
            ),
            ImageForm("bands", 5),
        ),
    ],
)
def test_of_a_lazy_config_whose_backbone_has_a_number_of_its_own(
    overrides: tuple[str, ...], expected: ImageForm
) -> None:
    assert form_of(str(config_of("fcos")), *overrides) == expected


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        (
            "fcos",
            ("model.pixel_mean=[1.0,2.0,3.0,4.0]", "model.pixel_std=[1.0,1.0,1.0,1.0]"),
            r"backbone\.bottom_up\.stem\.conv1, the model's first convolution, takes 3 .* gets 4",
        ),
        ("fcos", ("model.pixel_mean=[1.0,2.0]",), "detectron2 itself fails"),
        (
            "mask_rcnn_fpn",
            ("INPUT.FORMAT", "RGBA"),
            r"INPUT\.FORMAT is RGBA, of 4 channels, and MODEL\.PIXEL_MEAN .* have 3 values",
        ),
    ],
)
def test_numbers_that_contradict_each_other_are_refused_by_doctor_and_export_alike(
    config: str, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UnsupportedFamily, match=message):
        form_of(str(config_of(config)), *overrides)
    with pytest.raises(UnsupportedFamily, match=message):
        examine(ConfigSource(str(config_of(config)), overrides))


def test_a_format_that_no_image_is_served_in_is_refused() -> None:
    with pytest.raises(UnsupportedFamily, match=r"format is HSV.*BGR, RGB, L, RGBA"):
        form_of(str(config_of("mask_rcnn_fpn")), "INPUT.FORMAT", "HSV")


def test_means_and_deviations_of_different_lengths() -> None:
    with pytest.raises(ConfigError, match="PIXEL_MEAN has 2 values"):
        form_of(str(config_of("mask_rcnn_fpn")), "MODEL.PIXEL_MEAN", "[1.0, 2.0]")


def test_weights_of_another_number_of_channels_are_told_apart(tmp_path: Path) -> None:
    config = with_channels(tmp_path, 1)
    colours = str(config_of("mask_rcnn_fpn").with_suffix(".pth"))
    source = ConfigSource(str(config), ("MODEL.WEIGHTS", colours))
    with pytest.raises(
        WeightsError, match=r"conv1\.weight is \(16, 3, 7, 7\), expected \(16, 1, .*channels"
    ):
        load_model(load_config(source))


@pytest.mark.parametrize(("channels", "image_format"), [(1, "L"), (4, "BGR"), (9, "BGR")])
def test_doctor_says_that_it_exports(channels: int, image_format: str, tmp_path: Path) -> None:
    config = with_channels(tmp_path, channels, image_format=image_format)
    findings = examine(ConfigSource(str(config))).findings
    assert {each.runtime for each in findings} == set(RUNTIMES)
    verdicts = {each.verdict for each in findings if each.runtime in ON_A_CPU}
    assert verdicts == {"exports"}
