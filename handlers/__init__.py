"""The library that travels inside every .mar and answers there as detectron2 would.

It imports neither detectron2 nor a server. ``service.Service`` takes requests and gives replies,
for any server; ``torchserve/`` is TorchServe's adapter, and nothing else here knows TorchServe. The
plain library below it is ``Detector.open("model.mar")([image])``.
"""
