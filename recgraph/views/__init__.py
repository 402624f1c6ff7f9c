"""Augmentations: functions from an encoder's inputs to an encoder's inputs, see `recgraph.types.View`."""

from recgraph.views.graph import SVD, EdgeDrop, NodeDrop, RandomWalk
from recgraph.views.hidden import Noise

__all__ = ["SVD", "EdgeDrop", "NodeDrop", "Noise", "RandomWalk"]
