"""Collects what NNCF quantizes by: each image goes through the program once.

NNCF collects by itself, but in fp32 whatever the CPU has, and of every image: one in which nothing
is found gives statistics of nothing for the heads. So this is done here, in bf16 where the CPU has
it, and such images are left out as they are met.
"""

from __future__ import annotations

from collections.abc import Iterable

import nncf
import numpy as np
import numpy.typing as npt
import openvino as ov
from nncf.common.factory import ModelTransformerFactory
from nncf.common.graph.graph import NNCFGraph
from nncf.common.tensor_statistics.statistic_point import StatisticPointsContainer
from nncf.openvino.statistics.aggregator import OVStatisticsAggregator

from d2serve.export.precision.bf16 import marked
from d2serve.export.precision.layers import layers_of
from d2serve.handlers.runtimes.details import Details
from d2serve.handlers.spec.output_names import SCORES
from d2serve.handlers.spec.program_inputs import DETAIL_INPUTS
from d2serve.kernels.openvino.graph import suit_roi_align


class Calibration(OVStatisticsAggregator):  # type: ignore[misc]
    """The statistics of a program over images in which it finds something."""

    def __init__(
        self,
        images: Iterable[npt.NDArray[np.float32]],
        points: StatisticPointsContainer,
        most: int,
    ) -> None:
        """Prepare to collect.

        Args:
            images: as the program gets them, each (channels, H, W) float32, 0 to 255.
            points: where statistics are wanted, and which.
            most: how many images in which something is found are enough.
        """
        super().__init__(nncf.Dataset(images))
        self.register_statistic_points(points)
        self._most = most
        self.used = 0
        """Images in which something was found."""

    def collect_statistics(self, model: ov.Model, graph: NNCFGraph) -> None:
        """Run the images; the statistics are then in ``statistic_points``."""
        self._name_to_node_mapping = {node.get_friendly_name(): node for node in model.get_ops()}
        merged = self._get_merged_statistic_points(self.statistic_points, model, graph)
        outputs = self._get_transformation_layout_extra_outputs(merged)
        observed = ModelTransformerFactory.create(model).transform(outputs)
        request = _compiled(observed, model).create_infer_request()
        for image in self.dataset.get_inference_data():
            given = request.infer(_inputs(model, image), share_inputs=True)
            found = {name: value for key, value in given.items() for name in key.get_names()}
            if SCORES not in found or found[SCORES].size:
                self.used += 1
                self._register_statistics(self._process_outputs(found), merged)
            if self.used == self._most:
                break


def _compiled(observed: ov.Model, model: ov.Model) -> ov.CompiledModel:
    core = ov.Core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return core.compile_model(observed, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    layers = layers_of(model)
    network = (layers.weighted | layers.between) - layers.answering
    _lay_channels_together(observed)
    exact = frozenset(node.get_friendly_name() for node in observed.get_ops()) - network
    return core.compile_model(marked(observed, exact), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})


def _lay_channels_together(observed: ov.Model) -> None:
    """Let ROIAlign have its features with their channels together.

    OpenVINO runs in fp32 what is observed after the last layers before it, ROIAlign as well, and
    then gives it features in bf16 plane by plane, with which it is ten times slower.
    """
    features = {
        (output.get_node().get_friendly_name(), output.get_index()): output
        for node in observed.get_ops()
        if node.get_type_name() == "ROIAlign"
        for output in [node.input_value(0)]
    }
    for output in features.values():
        suit_roi_align(output)
    observed.validate_nodes_and_infer_types()


def _inputs(model: ov.Model, image: npt.NDArray[np.float32]) -> list[npt.NDArray[np.generic]]:
    """What a program takes of an image: every layer sees all instances."""
    for each in model.inputs:
        if DETAIL_INPUTS[0] in each.get_names():
            return [image, *Details.of_all(each.partial_shape[0].get_length()).inputs]
    return [image]
