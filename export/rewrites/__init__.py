"""Equivalents of detectron2 modules that cannot be exported as they are; one module per cause."""
