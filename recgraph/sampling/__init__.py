"""From interactions to batches: negatives, pairs, histories and clicks."""
