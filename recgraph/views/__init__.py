"""Augmentations: functions from an encoder's inputs to an encoder's inputs, see `recgraph.types.View`."""

from recgraph.views.graph import SVD, EdgeDrop, NodeDrop, RandomWalk
from recgraph.views.hidden import FeatureMask, Noise
from recgraph.views.sequence import Crop, CropMaskReorder, ItemMask, Reorder

__all__ = [
    "SVD",
    "Crop",
    "CropMaskReorder",
    "EdgeDrop",
    "FeatureMask",
    "ItemMask",
    "NodeDrop",
    "Noise",
    "RandomWalk",
    "Reorder",
]
