"""Model repositories of Triton Inference Server, whose Python backend answers with our service.

repository writes the configuration; model is copied beside the archive and runs within Triton.
"""
