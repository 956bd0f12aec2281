"""Native code in ONNX Runtime's programs: their graph is edited, in memory, while they load."""
