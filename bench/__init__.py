"""Benchmarks: each prints ratios against named peers."""
