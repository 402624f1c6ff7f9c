"""Heads turn a query vector and item vectors into scores."""

from recgraph.heads.base import Head
from recgraph.heads.fields import DCN, FM, DeepFM, Linear, WideDeep, build_head
from recgraph.heads.neural import MLP, NeuMF
from recgraph.heads.products import GMF, Cosine, Dot, Towers
from recgraph.heads.target import DIN

__all__ = [
    "DCN",
    "DIN",
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
