"""Augmentations: functions from an encoder's inputs to an encoder's inputs, see `recgraph.types.View`."""

from recgraph.views.graph import EdgeDrop, NodeDrop
from recgraph.views.hidden import Noise

__all__ = ["EdgeDrop", "NodeDrop", "Noise"]
