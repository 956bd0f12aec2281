"""Gives a model to annotation tools: CVAT, Label Studio and FiftyOne."""
