"""Native code in OpenVINO's models: operators in Python take the place of layers that fit."""
