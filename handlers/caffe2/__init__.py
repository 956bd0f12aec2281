"""Caffe2's files as a detectron2 model: ``Caffe2Model.load_protobuf(folder)(inputs)``."""

from __future__ import annotations

from d2serve.handlers.caffe2.model import Caffe2Model as Caffe2Model
