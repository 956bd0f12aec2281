"""TensorFlow programs from ONNX programs, by an importer of our own: ``converting.convert``."""
