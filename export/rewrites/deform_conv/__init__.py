"""Deformable convolution, version 1 and modulated."""
