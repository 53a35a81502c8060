"""Benchmarks: figures for people, never tests."""
