"""Heads turn a query vector and item vectors into scores."""

from recgraph.heads.base import Head
from recgraph.heads.neural import MLP, NeuMF
from recgraph.heads.products import GMF, Cosine, Dot, Towers

__all__ = ["GMF", "MLP", "Cosine", "Dot", "Head", "NeuMF", "Towers"]
