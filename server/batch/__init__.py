"""Answers many images without a server: on this machine's cores, or on a Ray cluster."""
