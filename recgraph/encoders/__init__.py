"""Encoders: pure PyTorch modules that turn inputs into query and item vectors. They need nothing else of recgraph."""

from recgraph.encoders.base import Encoder
from recgraph.encoders.embedding import Embedding
from recgraph.encoders.gat import GAT
from recgraph.encoders.lightgcn import LightGCN
from recgraph.encoders.ngcf import NGCF

__all__ = ["GAT", "NGCF", "Embedding", "Encoder", "LightGCN"]
