"""Heads turn a query vector and item vectors into scores."""

from recgraph.heads.base import Head
from recgraph.heads.neural import MLP, NeuMF
from recgraph.heads.products import GMF, Cosine, Dot, Towers
from recgraph.heads.target import DIN

__all__ = ["DIN", "GMF", "MLP", "Cosine", "Dot", "Head", "NeuMF", "Towers"]
