"""Writes a model repository for Triton Inference Server, and answers in its Python backend."""
