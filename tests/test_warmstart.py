"""A warm start puts a factorisation's vectors into the tables, at the size that they had."""

from __future__ import annotations

import pytest
import torch
from cases import random_interactions

from recgraph import registry
from recgraph.encoders import Embedding, LightGCN
from recgraph.encoders.base import Encoder
from recgraph.errors import ConfigError
from recgraph.experiments.warmstart import warm_start

IALS = {"name": "ials", "dim": 4, "epochs": 3}


@pytest.mark.parametrize("kind", [Embedding, LightGCN])
def test_tables_become_the_vectors_but_for_a_factor(kind: type[Encoder]) -> None:
    table = random_interactions()
    encoder = kind(table.num_users, table.num_items, dim=6)
    before = {name: getattr(encoder, name).weight.detach().clone() for name in ("users", "items")}
    warm_start(encoder, IALS, table)
    model = registry.baselines.build(IALS, table.num_users, table.num_items)
    model.fit(table)
    for name, vectors in zip(("users", "items"), model.embeddings(), strict=True):
        now = getattr(encoder, name).weight.detach()
        factor = before[name].square().mean().sqrt() / vectors.square().mean().sqrt()
        torch.testing.assert_close(now[:, :4], vectors * factor)
        assert torch.equal(now[:, 4:], before[name][:, 4:])
    scores = encoder.users.weight[:, :4] @ encoder.items.weight[:, :4].T
    expected = model.scorer()(torch.arange(table.num_users))
    ratio = scores.norm() / expected.norm()
    torch.testing.assert_close(scores.detach(), expected * ratio)  # the same ranking


def test_what_does_not_fit_is_refused() -> None:
    table = random_interactions()
    with pytest.raises(ConfigError, match="vectors of width 4 do not fit tables of width 3"):
        warm_start(Embedding(table.num_users, table.num_items, dim=3), IALS, table)
    bare = Encoder(table.num_users, table.num_items, dim=4)
    with pytest.raises(ConfigError, match="Encoder has no user and item tables to start warm"):
        warm_start(bare, IALS, table)
