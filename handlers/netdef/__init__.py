"""Caffe2's networks without Caffe2, which is gone from PyTorch: read, written and run."""
