"""Measures archives on this machine: workers, threads, latency and memory."""
