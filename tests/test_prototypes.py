"""Contrast with prototypes equals loops; its E-steps come when they should, and are in checkpoints."""

from __future__ import annotations

from itertools import pairwise

import pytest
import references_contrast
import torch
from test_contrastive import DISTINCT_ITEMS, DISTINCT_USERS, generator, gradients, model_and_batch, value

from recgraph import registry
from recgraph.encoders.content import ContentEncoder
from recgraph.errors import ConfigError
from recgraph.heads import Dot
from recgraph.models.recommender import Recommender
from recgraph.objectives import BPR, Objectives, PrototypeContrast
from recgraph.objectives.kmeans import chosen
from recgraph.types import Content, Encoding, Modality


def begun(recommender: Recommender, epoch: int = 1, **options: object) -> PrototypeContrast:
    objective = PrototypeContrast(**{"clusters": 4, "warm_up": 0, "temperature": 0.3, **options})
    objective.begin_epoch(recommender, epoch, generator())
    return objective


def centroids(objective: PrototypeContrast) -> torch.Tensor:
    return torch.cat([found.centroids for found in objective._found])


def move(recommender: Recommender) -> None:
    """Stands for an epoch's training."""
    with torch.no_grad():
        for table in recommender.parameters():
            table += torch.randn(table.shape, generator=generator(5), dtype=table.dtype)


def test_it_equals_a_loop_with_its_gradient() -> None:
    recommender, batch = model_and_batch()
    found = value(begun(recommender, iterations=3, item_weight=0.5), recommender, batch)
    chance, expected = generator(), torch.tensor(0.0, dtype=torch.float64)
    encoder = recommender.encoder
    starts = [chosen(table.detach(), 4, chance) for table in (encoder.users.weight, encoder.items.weight)]
    for weight, table, start, some in zip(
        (1.0, 0.5), (encoder.users.weight, encoder.items.weight), starts, (DISTINCT_USERS, DISTINCT_ITEMS), strict=True
    ):
        prototypes, places = references_contrast.kmeans(table.tolist(), start.tolist(), 3)
        prototypes = torch.tensor(prototypes, dtype=torch.float64)
        targets = [places[node] for node in some]
        expected = expected + weight * references_contrast.info_nce(table[some], prototypes, targets, 0.3)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients(found, recommender), gradients(expected, recommender), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("refresh", [1, 3])
def test_e_steps_begin_after_the_warm_up_and_come_every_so_many_epochs(refresh: int) -> None:
    recommender, _ = model_and_batch()
    objective, seen = PrototypeContrast(clusters=4, warm_up=2, refresh=refresh, iterations=1), []
    for epoch in range(1, 10):
        objective.begin_epoch(recommender, epoch, generator())
        seen.append(centroids(objective) if objective._found else None)
        move(recommender)
    assert seen[:2] == [None, None]
    same = [torch.equal(one, two) for one, two in pairwise(seen[2:])]
    assert same == [epoch % refresh != 0 for epoch in range(4, 10)]  # E-steps in epochs 3, 6 and 9, or in each


def test_in_the_warm_up_the_loss_is_zero_and_moves_nothing() -> None:
    recommender, batch = model_and_batch()
    loss = value(begun(recommender, warm_up=20), recommender, batch)
    assert loss == 0
    loss.backward()
    assert all(not parameter.grad.any() for parameter in recommender.encoder.items.parameters())


def test_an_e_step_goes_on_from_the_last_and_draws_nothing_more() -> None:
    recommender, _ = model_and_batch()
    objective = begun(recommender, iterations=2)
    tables = (recommender.encoder.users.weight, recommender.encoder.items.weight)
    before = [found.centroids for found in objective._found]
    move(recommender)
    objective.begin_epoch(recommender, 2, None)
    for found, table, start in zip(objective._found, tables, before, strict=True):
        expected, places = references_contrast.kmeans(table.tolist(), start.tolist(), 2)
        torch.testing.assert_close(found.centroids, torch.tensor(expected, dtype=torch.float64))
        assert found.places.tolist() == places


def test_what_is_clustered_has_no_dropout_and_training_goes_on_with_it() -> None:
    modality = Modality(torch.randn(9, 5, generator=generator()), torch.ones(9, dtype=torch.bool))
    content = Content({"words": modality})
    encoder = ContentEncoder(9, 9, content, dim=4, dropout=0.5)
    recommender = Recommender(encoder, {"rank": Dot(4)}, content=content).train()
    objective = begun(recommender, clusters=9, iterations=1)
    assert recommender.training
    assert encoder.training
    expected = recommender.eval().encode_all().items
    found = objective._found[1].centroids  # as many as there are items, so that each is an item's vector
    torch.testing.assert_close(found[objective._found[1].places], expected)


def test_prototypes_are_in_the_state_of_the_objectives() -> None:
    recommender, batch = model_and_batch()
    one = Objectives({"rank": (1.0, BPR()), "proto": (0.1, begun(recommender))})
    two = Objectives({"rank": (1.0, BPR()), "proto": (0.1, PrototypeContrast(clusters=4, warm_up=0, temperature=0.3))})
    two.load_state_dict(one.state_dict())
    move(recommender)
    for objectives in (one, two):
        objectives.terms["proto"].refresh = 5
        objectives.begin_epoch(recommender, 2, None)  # no E-step, no generator
    torch.testing.assert_close(one(recommender, batch)[1], two(recommender, batch)[1], rtol=0, atol=0)


def test_a_vector_is_drawn_to_its_prototype() -> None:
    recommender, batch = model_and_batch()
    objective = begun(recommender)

    def similarity() -> float:
        users, found = recommender.encoder.users.weight.detach(), objective._found[0]
        return torch.cosine_similarity(users, found.centroids[found.places])[DISTINCT_USERS].mean().item()

    before, optimizer = similarity(), torch.optim.Adam(recommender.parameters(), lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        value(objective, recommender, batch).backward()
        optimizer.step()
    assert similarity() > before + 0.05


def test_what_is_missing_is_said() -> None:
    recommender, batch = model_and_batch()
    with pytest.raises(ValueError, match="call begin_epoch"):
        value(PrototypeContrast(), recommender, batch)
    for warm_up in (0, 20):
        with pytest.raises(ConfigError, match="clusters is 13, but there are 12 users"):
            begun(recommender, clusters=13, warm_up=warm_up)
    with pytest.raises(ValueError, match="give begin_epoch a `generator`"):
        PrototypeContrast(clusters=4, warm_up=0).begin_epoch(recommender, 1, None)
    all_of = recommender.encode_all()
    recommender.encode_all = lambda: Encoding(all_of.query, all_of.items, all_of.ego._replace(query=None))
    with pytest.raises(ConfigError, match="LightGCN has no vectors of users"):
        begun(recommender)


def test_a_file_names_it() -> None:
    spec = {"name": "prototype_contrast", "clusters": 10, "refresh": 2}
    objective = registry.objectives.build(spec, where="objectives.proto")
    assert (objective.clusters, objective.refresh, objective.warm_up) == (10, 2, 20)
    with pytest.raises(ConfigError, match=r"objectives\.proto\.refresh"):
        registry.objectives.build({**spec, "refresh": 0}, where="objectives.proto")
