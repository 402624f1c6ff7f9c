"""BERT4Rec equals loops, sees both sides and no padding, never what is hidden, and learns an order."""

from __future__ import annotations

from typing import Any

import pytest
import references_sequence
import torch
from test_sasrec import cycle
from torch import Tensor

from recgraph.encoders import BERT4Rec
from recgraph.errors import ConfigError
from recgraph.heads import Dot
from recgraph.models.recommender import Recommender
from recgraph.objectives import CrossEntropy, Objectives, SequenceContrast, ViewContrast
from recgraph.random import isolated, torch_generator
from recgraph.sampling.sequences import SequenceBatches
from recgraph.types import MASK, PAD, Batch, Inputs
from recgraph.views import ItemMask


def build(**options: Any) -> BERT4Rec:
    with isolated(0, "modules"):
        encoder = BERT4Rec(9, 11, **{"dim": 6, "max_length": 7, "std": 0.5, **options}).double()
        for name, parameter in encoder.named_parameters():  # no neutral values, which a mistake could hide behind
            if parameter.dim() == 1 and name != "hidden":
                torch.nn.init.normal_(parameter, mean=0.5)
    return encoder.eval()


def query(encoder: BERT4Rec, history: list[int], position: int | None = None) -> Tensor:
    """After the last step, or at a step."""
    positions = None if position is None else torch.tensor([position])
    return encoder(Inputs(torch.tensor([0]), torch.tensor([history]), positions=positions)).query[0]


@pytest.mark.parametrize("heads", [1, 3])
def test_queries_equal_loops(heads: int) -> None:
    encoder = build(num_heads=heads)
    history = [3, 5, 1, 7, 2, 9, 4]
    torch.testing.assert_close(
        query(encoder, history), references_sequence.bert4rec(encoder, [item - 1 for item in history])[0]
    )
    masked = [3, MASK, 1, MASK, 2, 9, 4, 8]  # in training, one more
    items = [None if item == MASK else item - 1 for item in masked]
    for place in (1, 3):
        expected = references_sequence.bert4rec(encoder, items, place)[0]
        torch.testing.assert_close(query(encoder, masked, place), expected)


def test_every_step_counts_on_both_sides_and_padding_does_not() -> None:
    encoder = build()
    before = query(encoder, [3, 5, MASK, 1, 7], 2)
    for place in (0, 1, 3, 4):
        changed = [3, 5, MASK, 1, 7]
        changed[place] = 9
        assert not torch.allclose(before, query(encoder, changed, 2))
    torch.testing.assert_close(query(encoder, [PAD, PAD, 3, 5, MASK, 1, 7], 4), before)
    assert query(encoder, [PAD, PAD]).isfinite().all()
    torch.testing.assert_close(query(encoder, [PAD, PAD]), query(encoder, [PAD]))


def test_asking_what_comes_next_is_asking_about_a_hidden_step_behind() -> None:
    encoder = build()
    torch.testing.assert_close(query(encoder, [3, 5, 1]), query(encoder, [3, 5, 1, MASK], 3))


def test_positions_are_counted_from_the_end_and_a_full_history_has_one_for_the_hidden_step() -> None:
    encoder = build()
    before = query(encoder, [3, 5, 1, 7, 2, 9, 4])
    with torch.no_grad():
        encoder.positions[0, 0] += 1  # the oldest step of a full history; not the same in all, which LN would undo
    assert not torch.allclose(query(encoder, [3, 5, 1, 7, 2, 9, 4]), before)
    with pytest.raises(ValueError, match="length at most 7"):
        query(encoder, [3, 5, 1, 7, 2, 9, 4, 6])
    with pytest.raises(ValueError, match="length at most 7"):
        query(encoder, [3, 5, 1, 7, 2, 9, 4, 6, 8], 2)


@pytest.mark.parametrize(("share", "hidden"), [(0.2, 2), (0.01, 1), (0.5, 4)])
def test_batches_hide_what_is_to_be_predicted(share: float, hidden: int) -> None:
    table = cycle(users=10, items=20, length=8)  # item i + 1 comes after item i
    generators = torch_generator(0, "order"), torch_generator(0, "negatives")
    batches = SequenceBatches(table, 4, *generators, max_length=50, targets="masked", masked=share)
    seen, drawn = [], []
    for batch in [*batches, *batches]:
        history, positions = batch.inputs.history, batch.inputs.positions
        assert history.shape[1] == 8
        assert ((history == MASK).sum(1) == hidden).all()
        assert (history.flatten()[positions] == MASK).all()
        starts = batch.users  # who begins at the item of their own number
        torch.testing.assert_close(batch.items, (starts + positions % 8) % 20)
        seen += batch.inputs.users.tolist()
        drawn.append({(int(user), int(place)) for user, place in zip(starts, positions % 8, strict=True)})
    assert sorted(seen) == sorted([*range(10)] * 2)
    half = len(drawn) // 2
    assert set().union(*drawn[:half]) != set().union(*drawn[half:])  # anew in each epoch


def test_the_latest_items_are_read_and_one_more() -> None:
    table = cycle(users=3, items=20, length=8)
    generators = torch_generator(0, "order"), torch_generator(0, "negatives")
    (batch,) = SequenceBatches(table, 4, *generators, max_length=4, targets="masked")
    whole = batch.inputs.history.flatten().clone()
    whole[batch.inputs.positions] = batch.items + 1
    latest = torch.stack([(user + torch.arange(3, 8)) % 20 + 1 for user in batch.inputs.users])
    torch.testing.assert_close(whole.view(3, 5), latest)


@pytest.mark.parametrize("ssl", [SequenceContrast(), SequenceContrast(view=ItemMask()), ViewContrast()])
def test_objectives_that_ask_what_comes_next_leave_out_the_first_step_of_a_full_training_history(ssl: Any) -> None:
    """Such a history has a step more than the encoder reads without a masked one; masked items stay masked."""
    encoder, asked = build(dropout=0.0), []
    history = torch.tensor([[3, 4, MASK, 6, 7, 8, MASK, 10], [1, 2, 3, MASK, 5, 6, 7, 8]])
    inputs = Inputs(torch.tensor([0, 1]), history=history, positions=torch.tensor([2, 6, 11]))
    batch = Batch(inputs, torch.tensor([4, 8, 3]), generator=torch_generator(0, "views"))
    shared = encoder(inputs)
    encoder.register_forward_pre_hook(lambda _, given: asked.append(given[0]))
    assert ssl(Recommender(encoder, {"rank": Dot(6)}), batch, shared).isfinite()
    assert {one.positions for one in asked} == {None}
    if getattr(ssl, "view", None) is None:
        assert all(torch.equal(one.history, history[:, 1:]) for one in asked)


def test_what_comes_next_in_a_cycle_is_learned() -> None:
    table = cycle()
    with isolated(0, "modules"):
        recommender = Recommender(BERT4Rec(64, 20, dim=16, max_length=10, dropout=0.0, std=0.3), {"rank": Dot(16)})
        objectives = Objectives({"rank": (1.0, CrossEntropy())})
        optimizer = torch.optim.Adam(recommender.parameters(), lr=0.01)
        generators = torch_generator(0, "order"), torch_generator(0, "negatives")
        batches = SequenceBatches(table, 16, *generators, max_length=10, targets="masked", masked=0.5)
        for _ in range(150):
            for batch in batches:
                optimizer.zero_grad()
                objectives(recommender, batch)[0].backward()
                optimizer.step()
    recommender.observe(table.select((torch.arange(len(table)) % 8 < 7).numpy()))
    with torch.no_grad():
        best = recommender.eval().scorer()(torch.arange(64)).argmax(1)
    hit = (best == (torch.arange(64) + 7) % 20).float().mean()
    assert hit > 0.8  # chance is 1/20; off by one in targets or positions, it is 0


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match="4 heads do not divide a dim of 6"):
        build(num_heads=4)
