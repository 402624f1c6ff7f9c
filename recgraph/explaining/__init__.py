"""Explanations of recommendations, as numbers and as pictures."""
