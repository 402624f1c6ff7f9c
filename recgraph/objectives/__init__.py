"""Training objectives: a recipe is a dictionary of weighted objectives."""

from recgraph.objectives.base import Objective, Objectives
from recgraph.objectives.ranking import BPR
from recgraph.objectives.regularization import EgoL2

__all__ = ["BPR", "EgoL2", "Objective", "Objectives"]
