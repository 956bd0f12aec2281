"""Answers folders and shards of images offline: in this process tree, or on a Ray cluster."""
