"""Throughput, latency, cold start and memory of all sides, on servers: ``make bench``."""
