"""Deformable convolution, version 1 and modulated: on torchvision's operator, and in plain ONNX."""
