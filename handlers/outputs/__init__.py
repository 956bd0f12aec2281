"""From a program's raw outputs to detections in the image that was sent."""
