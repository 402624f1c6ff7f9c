"""The training loop, its optimisers, and trackers of runs."""
