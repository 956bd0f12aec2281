"""Why: int8 is a quarter of fp32's bytes and several times its speed, if what suffers is left out.

Post-training quantization with NNCF: the ranges of activations are seen on images that the user
names. Only the network is quantized (see ``precision``); of it, the layers that give logits, deltas
and masks stay in float, since their rounding goes straight into boxes and scores.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import nncf
import numpy as np
import numpy.typing as npt
import openvino as ov
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters

from d2serve.export.errors import ProgramError
from d2serve.export.precision import layers_of, to_bf16

FEWEST_IMAGES = 100


def ladder(model: ov.Model) -> Iterator[tuple[str, frozenset[str]]]:
    yield "the network in int8, its last layers in float", frozenset()


def to_int8(
    model: ov.Model,
    calibration: Iterable[npt.NDArray[np.float32]],
    exact: Iterable[str] = (),
    fewest: int = FEWEST_IMAGES,
) -> ov.Model:
    """A program whose network runs in int8, and whose other layers may run in bf16.

    Args:
        model: any detectron2 model in fp32; it is left as it is.
        calibration: images as the program gets them, each (3, H, W) float32, values 0 to 255.
        exact: names of further weighted layers that shall not be quantized.
        fewest: how many images are asked for.

    Raises:
        ProgramError: fewer images than that.
    """
    images = list(calibration)
    if len(images) < fewest:
        raise ProgramError(
            f"{len(images)} calibration images are too few for int8: ranges seen on them do not "
            f"hold for others. Name at least {fewest}, taken from the data that the model is for."
        )
    layers = layers_of(model)
    left_alone = layers.arithmetic | layers.last | frozenset(exact)
    logging.getLogger("nncf").setLevel(logging.ERROR)
    quantized = nncf.quantize(
        model.clone(),
        nncf.Dataset(images),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(images),
        fast_bias_correction=True,
        ignored_scope=nncf.IgnoredScope(names=sorted(left_alone), validate=False),
        advanced_parameters=AdvancedQuantizationParameters(disable_bias_correction=False),
    )
    return to_bf16(quantized)
