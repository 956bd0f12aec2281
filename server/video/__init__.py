"""Videos and cameras: their frames as a detector takes them, and drawn frames as a video."""
