"""Batches of training data: user-item pairs with negatives, histories and clicks."""
