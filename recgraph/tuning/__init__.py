"""Searches for settings, judged on validation alone."""
