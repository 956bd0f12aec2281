"""Offline: a detectron2 model goes in, a verified .mar comes out.

``d2serve.export.pipeline.export`` is the whole way. Only this room imports detectron2.
"""
