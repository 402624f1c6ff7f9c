"""From an experiment file to runs and their results."""
