"""Arithmetic that is faster than torch's own on a CPU, and small tools of drawing and hashing."""
