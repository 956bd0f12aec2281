"""TensorFlow programs from ONNX programs, by an importer of our own: ``converting.convert``.

TensorFlow is imported here for the whole floor, as ``failures.imported`` imports it.
"""

from d2serve.export.failures import imported

imported("tensorflow")
