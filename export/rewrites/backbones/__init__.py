"""Backbones beyond ResNet."""
