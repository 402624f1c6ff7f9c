"""Heads turn a query vector and item vectors into scores."""

from recgraph.heads.base import Head
from recgraph.heads.fields import DCN, FM, DeepFM, Linear, WideDeep, build_head
from recgraph.heads.neural import MLP, NeuMF
from recgraph.heads.products import GMF, Cosine, Dot, Towers

__all__ = [
    "DCN",
    "FM",
    "GMF",
    "MLP",
    "Cosine",
    "DeepFM",
    "Dot",
    "Head",
    "Linear",
    "NeuMF",
    "Towers",
    "WideDeep",
    "build_head",
]
