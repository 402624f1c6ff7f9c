"""Hyper-parameter search, judged on validation alone."""
