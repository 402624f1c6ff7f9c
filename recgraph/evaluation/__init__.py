"""Ranking the full catalogue and measuring it."""
