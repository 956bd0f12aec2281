"""The library that travels inside every .mar and answers there as detectron2 would.

It imports neither detectron2 nor TorchServe; ``detection_handler`` alone knows TorchServe's
contract. From any other server: ``Detector.open(model_dir)([image])``.
"""
