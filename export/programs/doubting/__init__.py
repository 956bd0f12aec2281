"""Notices where a trace makes constants of what depends on the image."""
