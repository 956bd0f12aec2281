"""Writes a model as Caffe2's two networks, which detectron2's deployment guide describes."""
