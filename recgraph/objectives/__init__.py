"""Training objectives: a recipe is a dictionary of weighted objectives."""

from recgraph.objectives.base import Objective, Objectives
from recgraph.objectives.contrastive import LayerContrast, ViewContrast
from recgraph.objectives.pointwise import BCE, CCL, GBCE
from recgraph.objectives.prototypes import PrototypeContrast
from recgraph.objectives.ranking import BPR
from recgraph.objectives.regularization import EgoL2
from recgraph.objectives.softmax import BSL, Softmax
from recgraph.objectives.ultragcn import UltraGCN
from recgraph.objectives.uniformity import DirectAU

__all__ = [
    "BCE",
    "BPR",
    "BSL",
    "CCL",
    "GBCE",
    "DirectAU",
    "EgoL2",
    "LayerContrast",
    "Objective",
    "Objectives",
    "PrototypeContrast",
    "Softmax",
    "UltraGCN",
    "ViewContrast",
]
