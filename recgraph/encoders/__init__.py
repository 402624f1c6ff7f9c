"""Encoders: pure PyTorch modules that turn inputs into query and item vectors. They need nothing else of recgraph."""

from recgraph.encoders.base import Encoder
from recgraph.encoders.content import ContentEncoder
from recgraph.encoders.embedding import Embedding
from recgraph.encoders.hybrid import Hybrid
from recgraph.encoders.lightgcn import LightGCN

__all__ = ["ContentEncoder", "Embedding", "Encoder", "Hybrid", "LightGCN"]
