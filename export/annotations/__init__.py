"""Annotations as people have them, made fit to judge a model by: read, matched and filled in."""
