"""Weights files: read without running what they may bring, in the layouts that people have."""
