"""Models that rank items: an encoder with heads, blends of two models, and the code that connects their parts."""
