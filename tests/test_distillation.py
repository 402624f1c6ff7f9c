"""What teaches content vectors equals loops, with gradients, and says nothing to whom it should not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from test_clcrec import TABLE, cosine, setting, with_gradients
from test_softmax import shared
from torch import Tensor

from recgraph.encoders import Embedding
from recgraph.errors import ConfigError
from recgraph.heads import GMF, Cosine, Dot, Head
from recgraph.models.recommender import Recommender
from recgraph.objectives import ALDI, GAR, ContentContrast, ContentDistance, Objective
from recgraph.random import isolated
from recgraph.types import Batch


def rows_of(batch: Batch) -> list[tuple[int, int, int]]:
    """Row, positive and negative of the rows that count, found without `hits`."""
    liked, found = TABLE.csr().toarray() > 0, []
    for row, (user, item) in enumerate(zip(batch.inputs.users.tolist(), batch.items.tolist(), strict=True)):
        if batch.hits is None:
            negative = int(batch.negatives[row, 0])
        else:
            run = -(-len(batch.items) // len(batch.negatives))
            own = batch.negatives[row // run].tolist()
            negative = own[(row % run + 1) % len(own)]
            if liked[user, negative]:
                continue
        if batch.mask[row]:
            found.append((row, item, negative))
    return found


def sigmoid(value: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-value))


def cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    told, made = sigmoid(teacher), sigmoid(student)
    return -told * torch.log(made) - (1 - told) * torch.log(1 - made)


def naive_aldi(recommender: Recommender, batch: Batch, temperature: float, qualify: float) -> Tensor:
    encoding = recommender.encoder(batch.inputs)
    teacher, student = encoding.sides.collaborative.detach(), encoding.sides.content
    query, rows = encoding.query.detach(), rows_of(batch)
    score = cosine if isinstance(recommender.heads["rank"], Cosine) else torch.dot
    liked = TABLE.csr().toarray() > 0
    total = []
    for row, item, negative in rows:
        (told_i, told_j), (made_i, made_j) = (
            [score(query[row], table[one]) / temperature for one in (item, negative)] for table in (teacher, student)
        )
        apart = [
            table[item] @ table[item] - torch.stack([table[item] @ table[other] for _, _, other in rows]).mean()
            for table in (student, teacher)
        ]
        weight = 1.0
        if qualify:
            trust = sum(1 / liked[user].sum() for user in range(TABLE.num_users) if liked[user, item])
            expected = TABLE.num_users / TABLE.num_items
            weight = math.tanh(min(qualify, qualify / expected * trust))
        total.append(
            -torch.log(sigmoid(made_i - made_j))
            + weight * 0.9 * cross_entropy(made_i - made_j, told_i - told_j)
            + weight * 0.05 * cross_entropy(*apart)
            + 0.1 * (abs(told_i - made_i) + abs(told_j - made_j))
        )
    return torch.stack(total).mean()


def naive_gar(recommender: Recommender, batch: Batch, alpha: float, beta: float) -> Tensor:
    """Each of the two losses is of its own copy of the encoding, where what it must not train is detached."""
    encoding = recommender.encoder(batch.inputs)
    known, content, query = *encoding.sides, encoding.query
    generator, judge = [], []
    for row, item, negative in rows_of(batch):
        user, real, fake = query[row].detach(), known[item].detach(), content[item]
        generator.append(
            -(1 - alpha) * torch.log(sigmoid(user @ fake - user @ real)) + alpha * (fake - real).abs().mean()
        )
        user, real, fake = query[row], known[item], content[item].detach()
        judge.append(-torch.log(sigmoid(user @ real - (1 - beta) * (user @ fake) - beta * (user @ known[negative]))))
    return torch.stack(generator).mean() + torch.stack(judge).mean()


BATCHES = pytest.mark.parametrize("share", [lambda batch: batch, shared], ids=["own", "shared"])


def same(recommender: Recommender, batch: Batch, objective: Objective, expected: Tensor) -> None:
    found = with_gradients(recommender, objective(recommender, batch, recommender.encoder(batch.inputs)))
    torch.testing.assert_close(found, with_gradients(recommender, expected), rtol=1e-7, atol=1e-7)


@BATCHES
@pytest.mark.parametrize("head", [Dot, Cosine])
@pytest.mark.parametrize("qualify", [0.0, 0.8])
def test_aldi_equals_a_loop(head: type[Head], share: Callable[[Batch], Batch], qualify: float) -> None:
    recommender, batch = setting(head)
    batch = share(batch)
    objective = ALDI(qualify=qualify, temperature=0.7)
    same(recommender, batch, objective, naive_aldi(recommender, batch, 0.7, qualify))


@BATCHES
def test_gar_equals_a_loop(share: Callable[[Batch], Batch]) -> None:
    recommender, batch = setting()
    batch = share(batch)
    same(recommender, batch, GAR(alpha=0.3, beta=0.2), naive_gar(recommender, batch, 0.3, 0.2))


def test_content_distance_equals_a_loop() -> None:
    recommender, batch = setting()
    known, content = recommender.encoder(batch.inputs).sides
    some = sorted({item for item, valid in zip(batch.items.tolist(), batch.mask.tolist(), strict=True) if valid})
    expected = sum(((known[item].detach() - content[item]) ** 2).sum() for item in some) / len(some)
    same(recommender, batch, ContentDistance(), expected)


@pytest.mark.parametrize("objective", [ALDI(), ContentDistance()], ids=["aldi", "content_distance"])
def test_a_teacher_learns_nothing_from_its_student(objective: Objective) -> None:
    recommender, batch = setting()
    objective(recommender, batch, recommender.encoder(batch.inputs)).backward()
    assert recommender.encoder.graph.items.weight.grad is None
    assert recommender.encoder.graph.users.weight.grad is None
    assert all(one.grad is not None for one in recommender.encoder.item_tower.parameters())


def test_a_head_with_weights_is_taught_neither_by_the_student_nor_by_the_generator() -> None:
    def gradients(objective: Objective) -> list[Tensor | None]:
        with isolated(0, "test"):
            recommender, batch = setting(GMF)
        objective(recommender, batch, recommender.encoder(batch.inputs)).backward()
        weights = list(recommender.heads.parameters())
        assert all(weight.requires_grad for weight in weights)
        assert all(weight.grad.any() for weight in recommender.encoder.item_tower.parameters())
        return [weight.grad for weight in weights]

    assert gradients(ALDI(qualify=4.0)) == [None, None]
    # α weighs the generator's losses alone.
    (one, _), (two, _) = gradients(GAR(alpha=0.1)), gradients(GAR(alpha=0.9))
    assert one.any()
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("objective", [ALDI(), ALDI(qualify=4.0), GAR(), ContentDistance()])
def test_it_is_finite_at_huge_scores_and_says_what_it_lacks(objective: Objective) -> None:
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


@pytest.mark.parametrize("objective", [ALDI(), GAR(), ContentDistance()], ids=["aldi", "gar", "content_distance"])
def test_training_teaches_content_vectors_who_likes_them(objective: Objective) -> None:
    recommender, batch = setting()
    with torch.no_grad():  # a teacher that knows: users lie between the items they like
        liked = torch.from_numpy(TABLE.csr().toarray() > 0).double()
        recommender.encoder.graph.users.weight.copy_(liked @ recommender.encoder.graph.items.weight)
    tower = list(recommender.encoder.item_tower.parameters())  # and stands still
    optimizer = torch.optim.Adam(tower, lr=0.02)

    def lead() -> float:
        """How much more users are given to what they like than to the rest, in the mean."""
        users = torch.arange(TABLE.num_users)
        encoding = recommender.encoder(replace(batch.inputs, users=users))
        scores = encoding.query @ encoding.sides.content.T
        return (scores[liked > 0].mean() - scores[liked == 0].mean()).item()

    before = lead()
    for _ in range(100):
        optimizer.zero_grad()
        objective(recommender, batch, recommender.encoder(batch.inputs)).backward()
        optimizer.step()
    assert lead() > max(0, before) + 0.5


def test_rows_without_a_negative_left_count_for_nothing() -> None:
    recommender, batch = setting()
    batch = replace(batch, mask=torch.zeros(len(batch.items), dtype=torch.bool))
    for objective in (ALDI(), GAR(), ContentDistance(), ContentContrast()):
        assert objective(recommender, batch, recommender.encoder(batch.inputs)) == 0


def test_scores_that_are_coarser_are_compared_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    recommender, batch = setting()
    monkeypatch.setattr(recommender, "score", lambda *_, **__: torch.ones(len(batch.items), 1, dtype=torch.bfloat16))
    encoding = recommender.encoder(batch.inputs)
    assert ALDI(temperature=0.1).scores(recommender, encoding.query, encoding.items, batch.items).dtype == torch.float32
