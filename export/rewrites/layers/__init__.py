"""Layers of torch and detectron2: normalisation, and activations that are plain functions."""
