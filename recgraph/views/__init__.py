"""Augmentations: functions from an encoder's inputs to an encoder's inputs, see `recgraph.types.View`."""
