"""Panoptic-DeepLab: its heads, and how it groups pixels, in tensors."""
