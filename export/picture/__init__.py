"""Draws a model as a network of its parts: a picture that one reads at a glance."""
