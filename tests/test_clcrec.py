"""Contrast of an item's two vectors equals loops, with gradients, with own and with shared negatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cases import graph_of, random_content, random_interactions
from test_softmax import counted, shared
from torch import Tensor

from recgraph import registry
from recgraph.encoders import Embedding
from recgraph.errors import ConfigError
from recgraph.heads import Cosine, Dot, Head
from recgraph.models.recommender import Recommender
from recgraph.objectives import CLCRec, ContentContrast, Objective, Objectives, rows
from recgraph.objectives import content as content_module
from recgraph.objectives.content import both_ways
from recgraph.random import isolated, torch_generator
from recgraph.types import Batch, Content, Inputs, Modality

TABLE = random_interactions()


EMBEDDING = {"name": "embedding", "dim": 4, "std": 0.8}


def setting(
    head: type[Head] = Dot, graph: dict[str, Any] = EMBEDDING, users: bool = False
) -> tuple[Recommender, Batch]:
    raw = random_content(TABLE.num_users, TABLE.num_items, users=users)
    content = Content(
        *(
            {name: Modality(values.double(), present) for name, (values, present) in side.items()}
            for side in (raw.items, raw.users)
        )
    )
    spec = {"name": "hybrid", "graph": graph, "hidden": 8}
    with isolated(0, "test"):
        encoder = registry.encoders.build(spec, TABLE.num_users, TABLE.num_items, content=content)
    generator = torch.Generator().manual_seed(0)
    users, items = torch.from_numpy(TABLE.user_indices), torch.from_numpy(TABLE.item_indices)
    negatives = torch.randint(TABLE.num_items, (len(users), 5), generator=generator)
    mask = torch.rand(len(users), generator=generator) < 0.7
    inputs = Inputs(users, graph=graph_of(TABLE), content=content)
    batch = Batch(inputs, items, negatives, mask=mask, generator=torch_generator(0, "views"))
    return Recommender(encoder, {"rank": head(4)}).double(), batch


def cosine(one: Tensor, two: Tensor) -> Tensor:
    return (one @ two) / torch.sqrt((one @ one) * (two @ two))


def minus_log_share(positive: Tensor, others: list[Tensor]) -> Tensor:
    return -torch.log(torch.exp(positive) / sum(map(torch.exp, others), torch.exp(positive)))


def with_gradients(recommender: Recommender, loss: Tensor) -> list[Tensor | None]:
    found = torch.autograd.grad(loss, list(recommender.parameters()), allow_unused=True)
    return [loss.detach(), *(torch.zeros(()) if one is None else one for one in found)]


def naive_clcrec(recommender: Recommender, batch: Batch, temperature: float, weight: float, rate: float) -> Tensor:
    """By rows, with what is replaced drawn as the objective draws it: of the positives, then of the negatives."""
    encoding = recommender.encoder(batch.inputs)
    known, content = encoding.sides
    generator = torch_generator(0, "views")
    of_items, of_negatives = (
        torch.rand(part.shape, generator=generator) < rate for part in (batch.items, batch.negatives)
    )
    score = cosine if isinstance(recommender.heads["rank"], Cosine) else torch.dot
    run = 1 if batch.hits is None else -(-len(batch.items) // len(batch.negatives))
    total, kept = [], counted(batch)
    for row, item in enumerate(batch.items.tolist()):
        if not batch.mask[row]:
            continue
        query = encoding.query[row]
        places = [
            (place, other) for place, other in enumerate(batch.negatives[row // run].tolist()) if other in kept[row]
        ]
        users = minus_log_share(
            score(query, (content if of_items[row] else known)[item]) / temperature,
            [
                score(query, (content if of_negatives[row // run, place] else known)[other]) / temperature
                for place, other in places
            ],
        )
        items = minus_log_share(
            cosine(known[item], content[item]) / temperature,
            [cosine(known[item], content[other]) / temperature for _, other in places],
        )
        total.append(weight * items + (1 - weight) * users)
    return torch.stack(total).mean()


@pytest.mark.parametrize("head", [Dot, Cosine])
@pytest.mark.parametrize("share", [lambda batch: batch, shared], ids=["own", "shared"])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_clcrec_equals_a_loop(head: type[Head], share: Callable[[Batch], Batch], rate: float) -> None:
    recommender, batch = setting(head)
    batch = share(batch)
    objective = CLCRec(temperature=0.7, weight_items=0.3, rate=rate)
    found = with_gradients(recommender, objective(recommender, batch, recommender.encoder(batch.inputs)))
    expected = with_gradients(recommender, naive_clcrec(recommender, batch, 0.7, 0.3, rate))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def naive_both_ways(known: Tensor, content: Tensor, temperature: float) -> Tensor:
    """Of the vectors of some items, by rows."""
    terms = []
    for one, two in ((known, content), (content, known)):
        for item in range(len(known)):
            others = [cosine(one[item], two[other]) / temperature for other in range(len(known)) if other != item]
            terms.append(minus_log_share(cosine(one[item], two[item]) / temperature, others))
    return torch.stack(terms).sum() / len(terms)


@pytest.mark.parametrize("whole", [True, False])
def test_content_contrast_equals_a_loop(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_module, "WHOLE_FLOATS", 2**28 if whole else 0)
    monkeypatch.setattr(content_module, "PART_ROWS", 3)
    recommender, batch = setting()
    objective = ContentContrast(temperature=0.4)
    some = valid_items(batch)
    sides = (side[some] for side in recommender.encoder(batch.inputs).sides)
    expected = with_gradients(recommender, naive_both_ways(*sides, 0.4))
    found = with_gradients(recommender, objective(recommender, batch, recommender.encoder(batch.inputs)))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def valid_items(batch: Batch) -> list[int]:
    return sorted({item for item, valid in zip(batch.items.tolist(), batch.mask.tolist(), strict=True) if valid})


@pytest.mark.parametrize("temperature", [0.01, 0.025, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("opposed", [False, True])
def test_both_ways_in_float32_is_that_of_float64(temperature: float, opposed: bool) -> None:
    """Also where vectors point against their own and all others, whose logits are the least there are."""
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(300, 64, generator=generator)
    two = -one[:1].expand(300, 64) if opposed else torch.randn(300, 64, generator=generator)
    one = one[:1].expand(300, 64) if opposed else one

    def value(pair: tuple[Tensor, Tensor], of: Callable[..., Tensor]) -> list[Tensor]:
        leaves = [side.clone().requires_grad_() for side in pair]
        loss = of(*leaves)
        return [loss.detach().float(), *(side.float() for side in torch.autograd.grad(loss, leaves))]

    def plain(one: Tensor, two: Tensor) -> Tensor:
        logits = F.normalize(one, dim=1) @ F.normalize(two, dim=1).T / temperature
        targets = torch.arange(len(one))
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2

    found = value((one, two), partial(both_ways, temperature=temperature))
    assert all(tensor.isfinite().all() for tensor in found)
    torch.testing.assert_close(found, value((one.double(), two.double()), plain), rtol=1e-4, atol=1e-5)


def test_both_ways_keeps_nothing_of_the_size_of_the_logits() -> None:
    vectors = torch.randn(200, 4, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda _: _):
        both_ways(vectors, vectors.flip(1), temperature=0.2)
    assert max(kept) <= vectors.numel()


@pytest.mark.parametrize("users", [False, True])
def test_content_contrast_at_each_layer_is_the_mean_over_layers(users: bool) -> None:
    recommender, batch = setting(graph={"name": "lightgcn", "dim": 4, "num_layers": 2, "std": 0.8}, users=users)
    objective = ContentContrast(temperature=0.4, layers="each")
    inputs = objective.inputs(batch.inputs, batch)
    found = with_gradients(recommender, objective(recommender, batch, recommender.encoder(inputs)))
    # Layers anew: each item's mean over its users of what they had, over the roots of both degrees, twice.
    adjacency = torch.from_numpy(TABLE.csr().toarray()).double()
    adjacency = adjacency / adjacency.sum(1, keepdim=True).sqrt() / adjacency.sum(0).sqrt()
    own, theirs = (getattr(recommender.encoder.graph, side).weight for side in ("items", "users"))
    layers = own, adjacency.T @ theirs, adjacency.T @ adjacency @ own
    some, content = valid_items(batch), recommender.encoder(batch.inputs).sides.content
    each = [naive_both_ways(layer[some], content[some], 0.4) for layer in layers]
    expected = with_gradients(recommender, sum(each) / 3)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_content_contrast_at_each_layer_says_that_there_are_none() -> None:
    recommender, batch = setting()
    objective = ContentContrast(layers="each")
    with pytest.raises(ConfigError, match="content_contrast: layers 'each': Hybrid has no layers"):
        objective(recommender, batch, recommender.encoder(objective.inputs(batch.inputs, batch)))


@pytest.mark.parametrize("share", [lambda batch: batch, shared], ids=["own", "shared"])
def test_chunks_do_not_matter(share: Callable[[Batch], Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    recommender, batch = setting()
    batch = share(batch)

    def value() -> list[Tensor | None]:
        objective = CLCRec(temperature=0.7)
        fresh = replace(batch, generator=torch_generator(0, "views"))
        return with_gradients(recommender, objective(recommender, fresh, recommender.encoder(batch.inputs)))

    whole = value()
    monkeypatch.setattr(rows, "CHUNK_FLOATS", 40)
    torch.testing.assert_close(value(), whole)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("kind", [CLCRec, ContentContrast])
def test_it_is_finite_at_huge_scores_and_says_what_it_lacks(kind: type[Objective], temperature: float) -> None:
    objective = kind(temperature=temperature)
    recommender, batch = setting()
    with torch.no_grad():
        for table in (recommender.encoder.graph.users, recommender.encoder.graph.items):
            table.weight *= 100
    loss = objective(recommender, batch, recommender.encoder(batch.inputs))
    loss.backward()
    assert loss.isfinite()
    assert all(one.grad is None or one.grad.isfinite().all() for one in recommender.parameters())
    bare = Recommender(Embedding(TABLE.num_users, TABLE.num_items, dim=4), {"rank": Dot(4)})
    with pytest.raises(ConfigError, match="compares collaborative with content vectors, and Embedding does not"):
        objective(bare, batch, bare.encoder(batch.inputs))


def test_training_brings_the_two_vectors_of_an_item_together() -> None:
    recommender, batch = setting()
    recommender = recommender.float()
    content = {name: Modality(v.float(), p) for name, (v, p) in batch.inputs.content.items.items()}
    batch = replace(batch, inputs=replace(batch.inputs, content=Content(content)))

    def lead() -> float:
        """How much nearer an item's own content is than the others', in the mean."""
        known, made = recommender.encoder(batch.inputs).sides
        cosines = torch.nn.functional.normalize(known, dim=1) @ torch.nn.functional.normalize(made, dim=1).T
        return (cosines.diagonal().mean() - cosines.mean()).item()

    objectives = Objectives({"align": (1.0, ContentContrast())})
    optimizer = torch.optim.Adam(recommender.parameters(), lr=0.02)
    before = lead()
    for _ in range(60):
        optimizer.zero_grad()
        objectives(recommender, batch)[0].backward()
        optimizer.step()
    assert abs(before) < 0.25
    assert lead() > 0.6
    assert math.isfinite(lead())
