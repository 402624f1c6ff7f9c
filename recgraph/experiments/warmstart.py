"""Warm starts: the vectors of a factorisation initialise an encoder's tables.

Training then starts from what a linear method has learned, and needs fewer epochs; `experiments/warmstart.yaml`
measures how many.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recgraph import registry
from recgraph.baselines.base import Baseline
from recgraph.data.interactions import Interactions
from recgraph.encoders.base import Encoder
from recgraph.errors import ConfigError


@torch.no_grad()
def warm_start(encoder: Encoder, spec: dict[str, Any], train: Interactions) -> None:
    """Fit a baseline that has vectors, and copy them into the tables `encoder.users` and `encoder.items`.

    Each table is scaled as a whole to the root mean square of its random initialisation, for which learning rates and
    L2 weights are chosen. This preserves directions, relative lengths and every user's ranking. Columns beyond the
    baseline's keep their random values.

    Args:
        encoder: on any device; changed in place. Of a hybrid, the tables are those of its graph encoder.
        spec: the resolved baseline.
        train: interactions that it is fitted on.

    Raises:
        ConfigError: as `tables_of`.
    """
    tables = tables_of(encoder, spec["dim"], "warm start")
    model: Baseline = registry.baselines.build(spec, train.num_users, train.num_items)
    model.fit(train)
    for table, vectors in zip(tables, model.embeddings(), strict=True):
        table.weight[:, : vectors.shape[1]] = vectors.to(table.weight) * (_size(table.weight) / _size(vectors))


def tables_of(encoder: Encoder, width: int, where: str) -> list[nn.Embedding]:
    """The tables of users and of items that can start with vectors of this width.

    Raises:
        ConfigError: the encoder has no such tables, or they are narrower; the message begins with `where`.
    """
    part = getattr(encoder, "graph", encoder)
    tables = [table for name in ("users", "items") if isinstance(table := getattr(part, name, None), nn.Embedding)]
    if len(tables) < 2:
        raise ConfigError(f"{where}: encoder.init: {type(part).__name__} has no user and item tables to start warm")
    if narrow := [table.embedding_dim for table in tables if table.embedding_dim < width]:
        raise ConfigError(f"{where}: encoder.init: vectors of width {width} do not fit tables of width {narrow[0]}")
    return tables


def _size(values: Tensor) -> float:
    """Root mean square."""
    return float(values.square().mean().sqrt())
