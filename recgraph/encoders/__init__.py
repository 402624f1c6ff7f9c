"""Encoders: pure PyTorch modules that turn inputs into query and item vectors. They need nothing else of recgraph."""

from recgraph.encoders.attentive import Attentive
from recgraph.encoders.base import Encoder
from recgraph.encoders.bert4rec import BERT4Rec
from recgraph.encoders.content import ContentEncoder
from recgraph.encoders.embedding import Embedding
from recgraph.encoders.fields import Fields
from recgraph.encoders.gat import GAT
from recgraph.encoders.gru4rec import GRU4Rec
from recgraph.encoders.hybrid import Hybrid
from recgraph.encoders.lightgcn import LightGCN
from recgraph.encoders.ngcf import NGCF
from recgraph.encoders.pooling import Pooling
from recgraph.encoders.sasrec import SASRec
from recgraph.encoders.sequential import SequenceEncoder

__all__ = [
    "GAT",
    "NGCF",
    "Attentive",
    "BERT4Rec",
    "ContentEncoder",
    "Embedding",
    "Encoder",
    "Fields",
    "GRU4Rec",
    "Hybrid",
    "LightGCN",
    "Pooling",
    "SASRec",
    "SequenceEncoder",
]
