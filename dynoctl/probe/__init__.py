"""Asking the running system: the readiness ladder, the proof by a token, benchmarks."""
