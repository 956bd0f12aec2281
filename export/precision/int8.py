"""Makes int8 programs by post-training quantization with NNCF.

int8 takes a quarter of fp32's bytes and runs several times as fast. The ranges of activations are
taken from calibration images that the user names. Only the network is quantized (see ``layers``).
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

import nncf
import numpy as np
import numpy.typing as npt
import openvino as ov
from nncf.openvino.graph.nncf_graph_builder import GraphConverter
from nncf.quantization.algorithms.post_training.algorithm import PostTrainingQuantization
from openvino._offline_transformations import compress_quantize_weights_transformation

from d2serve.export.errors import ProgramError
from d2serve.export.precision.bf16 import to_bf16
from d2serve.export.precision.calibration import Calibration
from d2serve.export.precision.layers import layers_of

FEWEST_IMAGES = 100
# Twice as many move the AP by less than its noise, and take twice as long (decision 41).
MOST_IMAGES = 150

Images = Iterable[npt.NDArray[np.float32]]
"""As the program gets them, each (channels, H, W) float32, 0 to 255, once for each attempt."""


@dataclass(frozen=True)
class Attempt:
    """One step of ``to_int8_within``."""

    left_in_float: str
    """What was not quantized, in words."""
    drop: float
    """How much AP was lost against fp32."""


def to_int8(
    model: ov.Model,
    images: Images,
    fewest: int = FEWEST_IMAGES,
    most: int = MOST_IMAGES,
    exact: frozenset[str] = frozenset(),
) -> ov.Model:
    """A program whose network runs in int8, and whose other layers may run in bf16.

    Args:
        model: any detectron2 model in fp32; it is left as it is.
        images: to calibrate on.
        fewest: in how many of them the model must find something.
        most: in how many it is enough; later ones are not looked at.
        exact: operations that stay in float beside the last layers, by their unique name.

    Raises:
        ProgramError: the model finds something in fewer images than that.
    """
    layers = layers_of(model)
    algorithm = PostTrainingQuantization(
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=most,
        ignored_scope=nncf.IgnoredScope(
            names=sorted(layers.arithmetic | layers.last | _unquantizable(model) | exact),
            validate=False,
        ),
    )
    quantized = model.clone()
    with _without_chatter():
        # A branch is one operation of this graph. nncf.quantize goes into branches, and runs all
        # images for each; in a detector they hold suppression, which has no layer to quantize.
        graph = GraphConverter.create_nncf_graph(quantized)
        calibration = Calibration(images, algorithm.get_statistic_points(quantized, graph), most)
        calibration.collect_statistics(quantized, graph)
        if calibration.used < fewest:
            raise ProgramError(
                "int8 is calibrated on images in which the model finds something, and "
                f"{calibration.used} such images are too few. Name at least {fewest}, from the "
                "data the model is for."
            )
        quantized = algorithm.apply(quantized, graph, calibration.statistic_points)
    compress_quantize_weights_transformation(quantized)
    _share_quantized_features(quantized)
    return to_bf16(quantized)


def _unquantizable(model: ov.Model) -> frozenset[str]:
    """What puts the ROIs of several levels together.

    OpenVINO does not do it in int8. NNCF would quantize what it takes, each level by itself in
    fp32, and the layer after it would then run in bf16.
    """
    return frozenset(
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() == "ScatterNDUpdate"
    )


def _share_quantized_features(model: ov.Model) -> None:
    """Let ROIAlign take the features that the next layer takes, quantized.

    The layer that gives them then gives int8. Else it gives bf16 to ROIAlign, and a copy of the
    largest maps of a model is quantized by itself, in fp32.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        others = [
            each
            for each in node.input_value(0).get_target_inputs()
            if each.get_node().get_friendly_name() != node.get_friendly_name()
        ]
        kinds = {each.get_node().get_type_name() for each in others}
        if "ROIAlign" in kinds and kinds <= {"ROIAlign", "ShapeOf"}:
            for each in others:
                each.replace_source_output(node.output(0))


@contextmanager
def _without_chatter() -> Iterator[None]:
    """NNCF draws progress bars of its own on stdout, and takes means of empty arrays."""
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def to_int8_within(
    model: ov.Model,
    images: Images,
    drop_of: Callable[[ov.Model], float],
    allowed: float,
    fewest: int = FEWEST_IMAGES,
) -> tuple[ov.Model, list[Attempt]]:
    """The first of a fixed series of int8 programs that loses little enough accuracy.

    First only the layers that give answers stay in float, then the layers before them as well, then
    the stem as well.

    Args:
        model, images, fewest: see ``to_int8``.
        drop_of: AP that a program loses against fp32, on images not used for calibration.
        allowed: largest loss, in the same unit.

    Returns:
        The program and what was tried, the last being the one that is returned.

    Raises:
        ProgramError: all of them lose more, or there are too few images.
    """
    layers = layers_of(model)
    tried: list[Attempt] = []
    for words, exact in (
        ("the layers that give answers", frozenset[str]()),
        ("these and the layers before them", layers.before_last),
        ("these, the layers before them and the stem", layers.before_last | layers.first),
    ):
        program = to_int8(model, images, fewest, exact=exact)
        tried.append(Attempt(words, drop_of(program)))
        if tried[-1].drop <= allowed:
            return program, tried
    figures = "; ".join(f"{each.drop:.2f} with {each.left_in_float} in float" for each in tried)
    raise ProgramError(
        f"int8 loses more than {allowed:.2f} AP on this model: {figures}. "
        "Calibrate on images closer to those it will serve, or use --precision bf16."
    )
