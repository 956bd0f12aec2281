"""Lower precisions of OpenVINO programs, and what they cost in AP."""
