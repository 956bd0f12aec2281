"""Builds a TensorRT engine from an ONNX program, for any size of image that the model may get.

Tensors have the types that the program gives them, so what is fp16 in it runs in fp16. fp32 is
computed as fp32: TensorRT's own default rounds its products to TF32, ten bits.
"""

from __future__ import annotations

from pathlib import Path

import tensorrt as trt

from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.details import ALL
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.program_inputs import IMAGE_INPUT

# Of an image that is not resized: what a larger one needs is not planned for.
_LONGEST_SIDE = 4096
_SMALLEST, _USUAL = 1, 800


def longest_side(spec: ModelSpec) -> int:
    """Of an image as the program gets it, in pixels."""
    return spec.max_size_test if spec.min_size_test else _LONGEST_SIDE


def build_engine(program: Path, spec: ModelSpec, logger: trt.ILogger) -> bytes:
    """The engine of a program for the current GPU, serialized.

    Raises:
        LoadError: TensorRT lacks an operator, or cannot build it; the message has its own words.
    """
    builder = trt.Builder(logger)
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(program)):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise LoadError(
            f"TensorRT {trt.__version__} cannot read {program.name} ({reasons[:600]}). "
            "Install the version that the archive was exported with (see `d2serve inspect`), or "
            "export again with --runtime onnxruntime."
        )
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    config.add_optimization_profile(_profile(builder, network, spec))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise LoadError(
            f"TensorRT {trt.__version__} cannot build an engine of {program.name} on this GPU; its "
            "reasons are in the log above. It may lack memory: stop what else uses the GPU, or "
            "export with --runtime onnxruntime."
        )
    return bytes(plan)


def _profile(
    builder: trt.Builder, network: trt.INetworkDefinition, spec: ModelSpec
) -> trt.IOptimizationProfile:
    profile = builder.create_optimization_profile()
    most = longest_side(spec)
    usual = min(spec.min_size_test or _USUAL, most)
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if tensor.name == IMAGE_INPUT:
            least = (spec.channels, _SMALLEST, _SMALLEST)
            largest = (spec.channels, most, most)
            profile.set_shape(IMAGE_INPUT, least, (spec.channels, usual, usual), largest)
        elif tensor.is_shape_tensor:  # a number that sizes depend on: of the image, or how many
            profile.set_shape_input(tensor.name, [0], [usual], [ALL])
    return profile
