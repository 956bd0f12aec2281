"""Rotated R-CNN: proposals and heads, and the operators that only a compiled detectron2 has."""
