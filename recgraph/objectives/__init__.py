"""Training objectives: a recipe is a dictionary of weighted objectives."""

from recgraph.objectives.base import Objective, Objectives
from recgraph.objectives.clicks import LogLoss, SquaredError
from recgraph.objectives.content import CLCRec, ContentContrast
from recgraph.objectives.content_neighbours import ContentNeighbours
from recgraph.objectives.contrastive import LayerContrast, ViewContrast
from recgraph.objectives.distillation import ALDI, GAR, ContentDistance
from recgraph.objectives.labels import Label
from recgraph.objectives.pointwise import BCE, CCL, GBCE
from recgraph.objectives.prototypes import PrototypeContrast
from recgraph.objectives.ranking import BPR
from recgraph.objectives.regularization import EgoL2, WeightDecay
from recgraph.objectives.sequence_contrast import SameTargetContrast, SequenceContrast
from recgraph.objectives.softmax import BSL, CrossEntropy, Softmax
from recgraph.objectives.ultragcn import UltraGCN
from recgraph.objectives.uniformity import DirectAU

__all__ = [
    "ALDI",
    "BCE",
    "BPR",
    "BSL",
    "CCL",
    "GAR",
    "GBCE",
    "CLCRec",
    "ContentContrast",
    "ContentDistance",
    "ContentNeighbours",
    "CrossEntropy",
    "DirectAU",
    "EgoL2",
    "Label",
    "LayerContrast",
    "LogLoss",
    "Objective",
    "Objectives",
    "PrototypeContrast",
    "SameTargetContrast",
    "SequenceContrast",
    "Softmax",
    "SquaredError",
    "UltraGCN",
    "ViewContrast",
    "WeightDecay",
]
