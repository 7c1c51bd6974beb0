"""Benchmarks: botmemory beside the driver and two ORMs."""
