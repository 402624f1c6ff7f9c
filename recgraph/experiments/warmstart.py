"""Warm starts: the vectors of a factorisation initialise an encoder's tables.

Training then starts from what a linear method has learned, and needs fewer epochs; `experiments/warmstart.yaml`
measures how many.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recgraph import registry
from recgraph.baselines.base import Baseline
from recgraph.data.interactions import Interactions
from recgraph.encoders.base import Encoder
from recgraph.errors import ConfigError


@torch.no_grad()
def warm_start(encoder: Encoder, spec: dict[str, object], train: Interactions) -> None:
    """Fit a baseline that has vectors, and copy them into the tables `encoder.users` and `encoder.items`.

    Each table is scaled as a whole to the root mean square of its random initialisation, for which learning rates and
    L2 weights are chosen. This preserves directions, relative lengths and every user's ranking. Columns beyond the
    baseline's keep their random values.

    Args:
        encoder: on any device; changed in place.
        spec: the resolved baseline.
        train: interactions that it is fitted on.

    Raises:
        ConfigError: the encoder has no such tables, or the vectors are wider than they are.
    """
    tables = [getattr(encoder, name, None) for name in ("users", "items")]
    if not all(isinstance(table, nn.Embedding) for table in tables):
        raise ConfigError(f"encoder.init: {type(encoder).__name__} has no tables of users and items to start warm")
    model: Baseline = registry.baselines.build(spec, train.num_users, train.num_items)
    model.fit(train)
    for table, vectors in zip(tables, model.embeddings(), strict=True):
        assert isinstance(table, nn.Embedding)
        width = vectors.shape[1]
        if width > table.embedding_dim:
            raise ConfigError(
                f"encoder.init: vectors of width {width} do not fit tables of width {table.embedding_dim}"
            )
        table.weight[:, :width] = vectors.to(table.weight) * (_size(table.weight) / _size(vectors))


def _size(values: Tensor) -> float:
    """Root mean square."""
    return float(values.square().mean().sqrt())
