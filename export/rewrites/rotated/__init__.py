"""Rotated R-CNN, in plain operators."""
