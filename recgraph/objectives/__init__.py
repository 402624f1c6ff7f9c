"""Training objectives: a recipe is a dictionary of weighted objectives."""

from recgraph.objectives.base import Objective, Objectives
from recgraph.objectives.content import CLCRec, ContentContrast
from recgraph.objectives.contrastive import LayerContrast, ViewContrast
from recgraph.objectives.pointwise import CCL, GBCE
from recgraph.objectives.ranking import BPR
from recgraph.objectives.regularization import EgoL2
from recgraph.objectives.softmax import BSL, Softmax
from recgraph.objectives.uniformity import DirectAU

__all__ = [
    "BPR",
    "BSL",
    "CCL",
    "GBCE",
    "CLCRec",
    "ContentContrast",
    "DirectAU",
    "EgoL2",
    "LayerContrast",
    "Objective",
    "Objectives",
    "Softmax",
    "ViewContrast",
]
