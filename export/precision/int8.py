"""Makes int8 programs by post-training quantization with NNCF.

int8 takes a quarter of fp32's bytes and runs several times as fast. The ranges of activations are
taken from calibration images that the user names. Only the network is quantized (see ``bf16``).
Of it, the layers that give logits, deltas and masks stay in float, since their rounding goes
straight into boxes and scores.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import nncf
import numpy as np
import numpy.typing as npt
import openvino as ov
from nncf.openvino.quantization import quantize_model
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters

from d2serve.export.errors import ProgramError
from d2serve.export.precision.bf16 import layers_of, to_bf16
from d2serve.handlers.runtimes.details import Details
from d2serve.handlers.spec.program_inputs import DETAIL_INPUTS

FEWEST_IMAGES = 100

_IFS = "get_number_if_op"
"""What NNCF counts a program's branches with, to decide whether to go into them."""


@dataclass(frozen=True)
class Attempt:
    """One step of ``to_int8_within``."""

    left_in_float: str
    """What was not quantized, in words."""
    drop: float
    """How much AP was lost against fp32."""


def to_int8(
    model: ov.Model,
    calibration: Iterable[npt.NDArray[np.float32]],
    fewest: int = FEWEST_IMAGES,
) -> ov.Model:
    """A program whose network runs in int8, and whose other layers may run in bf16.

    Args:
        model: any detectron2 model in fp32; it is left as it is.
        calibration: images as the program gets them, each (channels, H, W) float32, 0 to 255.
        fewest: how many images are asked for.

    Raises:
        ProgramError: fewer images than that in which the model finds anything.
    """
    return _quantized(model, _enough(model, calibration, fewest), frozenset())


def _quantized(
    model: ov.Model, images: list[npt.NDArray[np.float32]], exact: frozenset[str]
) -> ov.Model:
    layers = layers_of(model)
    left_alone = layers.arithmetic | layers.last | exact
    with _without_chatter(), _branches_left_alone():
        quantized = nncf.quantize(
            model.clone(),
            nncf.Dataset(images, partial(_inputs, model)),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
            fast_bias_correction=True,
            ignored_scope=nncf.IgnoredScope(names=sorted(left_alone), validate=False),
            advanced_parameters=AdvancedQuantizationParameters(disable_bias_correction=False),
        )
    return to_bf16(quantized)


def _inputs(model: ov.Model, image: npt.NDArray[np.float32]) -> list[npt.NDArray[np.generic]]:
    """What a program takes of an image: every layer sees all instances."""
    for each in model.inputs:
        if DETAIL_INPUTS[0] in each.get_names():
            return [image, *Details.of_all(each.partial_shape[0].get_length()).inputs]
    return [image]


@contextmanager
def _without_chatter() -> Iterator[None]:
    """NNCF draws progress bars of its own on stdout, and takes means of empty arrays."""
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


@contextmanager
def _branches_left_alone() -> Iterator[None]:
    """Within it, NNCF takes an If for one operation.

    Otherwise it quantizes each branch by itself, for which it runs all images through the whole
    program again. In a detector they hold suppression, which has no layer to quantize.
    """
    looked_for = getattr(quantize_model, _IFS, None)
    if looked_for is None:  # another NNCF: it takes its time, and the program is the same
        yield
        return
    setattr(quantize_model, _IFS, lambda _model: 0)
    try:
        yield
    finally:
        setattr(quantize_model, _IFS, looked_for)


def _enough(
    model: ov.Model, calibration: Iterable[npt.NDArray[np.float32]], fewest: int
) -> list[npt.NDArray[np.float32]]:
    images = _with_detections(model, calibration)
    if len(images) < fewest:
        raise ProgramError(
            f"int8 is calibrated on images in which the model finds something, and {len(images)} "
            f"such images are too few. Name at least {fewest}, from the data the model is for."
        )
    return images


def _with_detections(
    model: ov.Model, images: Iterable[npt.NDArray[np.float32]]
) -> list[npt.NDArray[np.float32]]:
    """Images that every layer sees something of.

    A mask head gets no input where nothing is detected; statistics of nothing are garbage, and one
    such image is enough to correct the head's biases by it.
    """
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    kept = []
    for image in images:
        request.infer(_inputs(model, image))
        if request.get_tensor("scores").size:
            kept.append(image)
    return kept


def to_int8_within(
    model: ov.Model,
    calibration: Iterable[npt.NDArray[np.float32]],
    drop_of: Callable[[ov.Model], float],
    allowed: float,
    fewest: int = FEWEST_IMAGES,
) -> tuple[ov.Model, list[Attempt]]:
    """The first of a fixed series of int8 programs that loses little enough accuracy.

    First only the layers that give answers stay in float, then the layers before them as well, then
    the stem as well.

    Args:
        model, calibration, fewest: see ``to_int8``.
        drop_of: AP that a program loses against fp32, on images not used for calibration.
        allowed: largest loss, in the same unit.

    Returns:
        The program and what was tried, the last being the one that is returned.

    Raises:
        ProgramError: all of them lose more, or there are too few images.
    """
    images = _enough(model, calibration, fewest)
    layers = layers_of(model)
    tried: list[Attempt] = []
    for words, exact in (
        ("the layers that give answers", frozenset[str]()),
        ("these and the layers before them", layers.before_last),
        ("these, the layers before them and the stem", layers.before_last | layers.first),
    ):
        program = _quantized(model, images, exact)
        tried.append(Attempt(words, drop_of(program)))
        if tried[-1].drop <= allowed:
            return program, tried
    figures = "; ".join(f"{each.drop:.2f} with {each.left_in_float} in float" for each in tried)
    raise ProgramError(
        f"int8 loses more than {allowed:.2f} AP on this model: {figures}. "
        "Calibrate on images closer to those it will serve, or use --precision bf16."
    )
