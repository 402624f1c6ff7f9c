"""Options reach the parts that they are for, and parts of a model act where they should: each test is a mistake that
others let pass."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import test_clicks
import torch
from cases import LABELLED, graph_of, random_content, random_interactions, with_label_heads
from torch import nn

from recgraph import registry
from recgraph.data.interactions import Interactions
from recgraph.encoders import BERT4Rec, Embedding, LightGCN, SASRec
from recgraph.encoders.tower import Experts
from recgraph.encoders.transformer import Attention, Block, causal
from recgraph.evaluation import resampling
from recgraph.evaluation.prediction import Predictions, measure
from recgraph.graph import Links
from recgraph.heads import DCN, DIN, MLP, Dot
from recgraph.heads.base import steps_of
from recgraph.models.packing import pack_content, unpack_content
from recgraph.models.pairing import asked
from recgraph.models.recommender import Recommender
from recgraph.models.sharing import PLE
from recgraph.numerics.dropout import Dropout
from recgraph.objectives import (
    CLCRec,
    ContentNeighbours,
    Label,
    Objectives,
    PrototypeContrast,
    SequenceContrast,
    WeightDecay,
    rows,
)
from recgraph.objectives.base import Objective
from recgraph.objectives.content import both_ways
from recgraph.objectives.info_nce import info_nce
from recgraph.random import isolated
from recgraph.sampling import batches
from recgraph.sampling.clicks import ClickBatches
from recgraph.sampling.negatives import Uniform
from recgraph.types import MASK, Batch, Content, Ego, Encoding, Inputs, Modality, Past
from recgraph.views import CropMaskReorder


def test_shared_experts_are_shared_parameters() -> None:
    model = with_label_heads({"name": "mmoe", "hidden": 6})
    shared = {id(p) for p in model.shared_parameters()}
    assert shared == {id(p) for n, p in model.named_parameters() if n.startswith(("encoder.", "sharing."))}


class Pull(Objective):
    def __init__(self, to):
        super().__init__()
        self.to_ = to

    def forward(self, recommender, batch, encoding):
        return (encoding.query - self.to_).square().mean()


@pytest.mark.parametrize("name", ["uncertainty", "gradnorm", "pcgrad"])
def test_weights_of_tasks_come_before_balancing(name) -> None:
    model = Recommender(Embedding(5, 7, dim=4), {"rank": Dot(4)})
    batch = replace(LABELLED, generator=torch.Generator().manual_seed(0))
    terms = {"one": (2.0, Pull(1.0)), "two": (0.25, Pull(1.5))}  # no conflict; factors begin at 1
    grads = []
    for more in ({}, {"balance": registry.balances.build(name, 2), "balanced": ("one", "two")}):
        model.zero_grad()
        Objectives(terms, **more).backward(model, batch)
        grads.append(model.encoder.users.weight.grad.clone())
    torch.testing.assert_close(*grads)


def test_neighbours_of_other_content_are_found_anew() -> None:
    table = random_interactions()
    graph = graph_of(table)
    objective = ContentNeighbours(neighbours=3)
    one, two = (random_content(table.num_users, table.num_items, seed=s) for s in (0, 1))
    first = objective.near(one, graph).items
    assert objective.near(one, graph).items is first
    assert not torch.equal(objective.near(two, graph).items, first)


def test_the_first_e_step_is_after_the_warm_up() -> None:
    model = Recommender(Embedding(20, 20, dim=4), {"rank": Dot(4)})
    objective = PrototypeContrast(clusters=3, warm_up=2, refresh=1)
    for epoch in (1, 2, 3):
        objective.begin_epoch(model, epoch, torch.Generator().manual_seed(0))
        assert bool(objective._found) == (epoch == 3)


@pytest.mark.parametrize("of", ["sex", "genre", "liked"])
def test_no_vector_learns_from_a_probe(of) -> None:
    model = with_label_heads(None)
    Objectives({of: (1.0, Label(of=of, probe=True))}).backward(model, LABELLED)
    for p in model.encoder.parameters():
        assert p.grad is None or not p.grad.any()
    assert any(p.grad is not None and p.grad.any() for p in model.label_heads.parameters())


def test_weight_decay_is_of_heads_too() -> None:
    model = Recommender(Embedding(5, 7, dim=4), {"rank": MLP(4)})
    Objectives({"wd": (1.0, WeightDecay())}).backward(model, LABELLED)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, p.detach(), msg=name)


def test_masked_rows_are_in_no_pair() -> None:
    model = Recommender(SASRec(4, 7, dim=4, max_length=3, dropout=0.0), {"rank": Dot(4)})
    history = torch.randint(1, 8, (4, 3))
    mask = torch.tensor([True, False, True, True])

    def value(users, history, mask):
        batch = Batch(Inputs(users, history), users % 7, mask=mask)
        return SequenceContrast()(model, batch, model.encoder(batch.inputs))

    users = torch.arange(4)
    torch.testing.assert_close(value(users, history, mask), value(users[mask], history[mask], None))


def test_crop_mask_and_reorder_have_their_own_shares() -> None:
    assert [view.share for view in CropMaskReorder(crop=0.25, mask=0.5, reorder=0.75).views] == [0.25, 0.5, 0.75]


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_dropout_acts_on_what_attention_gives(norm) -> None:
    class Nothing(nn.Module):
        def forward(self, x):
            return 0 * x

    block = Block(Attention(4, 1, 0.0, project=True), Nothing(), norm=norm, dropout=0.5)
    x, mask = torch.randn(3, 5, 4), causal(torch.ones(3, 5, dtype=torch.long))
    assert not torch.equal(block(x, mask), block(x, mask))
    block.eval()
    assert torch.equal(block(x, mask), block(x, mask))


def test_dropout_within_sasrec_is_where_it_says() -> None:
    for norm, inner in (("query", 0.5), ("pre", 0.5), ("post", 0.0)):
        block = SASRec(4, 7, dim=4, dropout=0.5, attention_dropout=0.25, norm=norm).blocks[0]
        assert block.attention.dropout == 0.25
        assert [block.network[n].p for n in (2, 4)] == [inner, 0.5]
        assert block.dropout.p == 0.5


def test_low_pass_option() -> None:
    one, two = (SASRec(4, 7, dim=4, max_length=8, norm="post", frequency=0.5, low_pass=c) for c in (1, 7))
    assert not torch.equal(one.blocks[0].low.low, two.blocks[0].low.low)


def hybrid(**options):
    table = random_interactions()
    users = options.pop("users", False)
    content = random_content(table.num_users, table.num_items, users=users)
    spec = {"name": "hybrid", "graph": {"name": "lightgcn", "dim": 4}, **options}
    with isolated(0, "modules"):
        encoder = registry.encoders.build(spec, table.num_users, table.num_items, content=content)
    return encoder, Inputs(torch.tensor([3, 0, 3]), graph=graph_of(table), content=content), table


def test_tower_dropout_is_of_the_towers() -> None:
    encoder, inputs, _ = hybrid(tower_dropout=0.5)
    encoder.train()
    one, two = encoder(inputs), encoder(inputs)
    assert not torch.equal(one.sides.content, two.sides.content)
    assert torch.equal(one.items[0], two.items[0])  # warm, never shown as cold
    encoder, inputs, _ = hybrid(dropout=0.5)
    encoder.train()
    assert torch.equal(encoder(inputs).sides.content, encoder(inputs).sides.content)


@pytest.mark.parametrize("users", [False, True])
def test_perturb_acts_on_content_vectors(users) -> None:
    table = random_interactions()
    encoder, inputs, _ = hybrid(users=users)
    cold = table.select((table.item_indices != 2) & (table.user_indices != 3))
    inputs = replace(inputs, graph=graph_of(cold))
    encoder.eval()
    doubled = encoder(replace(inputs, perturb=lambda hidden: 2 * hidden))
    plain = encoder(inputs)
    # the graph's hidden layers double too: of no account for an item or user without neighbours but for the length
    cosine = torch.cosine_similarity(doubled.items[2], plain.items[2], dim=0)
    torch.testing.assert_close(cosine, torch.tensor(1.0))
    negated = encoder(replace(inputs, perturb=lambda hidden: -hidden))
    assert torch.cosine_similarity(negated.sides.content[2], plain.sides.content[2], dim=0) < 0
    if users:
        assert torch.cosine_similarity(negated.query[0], plain.query[0], dim=0) < 0


def test_links_of_users_count_for_how_known_they_are() -> None:
    table = random_interactions()
    encoder, inputs, _ = hybrid(users=True)
    encoder.eval()
    graph = graph_of(table.select(table.user_indices != 3))
    links = Links.of(torch.tensor([3]), torch.tensor([5]), torch.ones(1), table.num_users)
    linked = graph.linked(links, None)
    found = encoder(replace(inputs, graph=linked))
    # user 3 has no interaction but a link: with shrinkage 0 the vector is the graph's alone
    torch.testing.assert_close(found.query[0], encoder.graph(replace(inputs, graph=linked)).query[0])


def test_content_encoder_options() -> None:
    content = random_content(12, 17)
    encoder = registry.encoders.build(
        {"name": "content", "dim": 4, "dropout": 0.5, "experts": 3}, 12, 17, content=content
    )
    assert {m.p for m in encoder.modules() if isinstance(m, Dropout)} == {0.5}
    assert [len(m.networks) for m in encoder.modules() if isinstance(m, Experts)] == [3, 3]


@pytest.mark.parametrize("crosses", [(), (("user", "weekday"),)])
def test_each_field_of_the_context_reads_its_own_column(crosses) -> None:
    content = Content({})
    encoder = registry.encoders.build(
        {"name": "fields", "dim": 4, "context": ["weekday"], "crosses": [list(c) for c in crosses]},
        5,
        7,
        content=content,
    )
    with torch.no_grad():
        for p in encoder.parameters():
            p.normal_()

    def query(hour, weekday):
        return encoder(Inputs(torch.tensor([1]), content=content, context=torch.tensor([[hour, weekday]]))).query

    assert torch.equal(query(1, 2), query(3, 2))
    one, other = query(1, 2), query(1, 4)
    assert not torch.equal(one, other)
    if crosses:
        with torch.no_grad():
            encoder.users.moment["weekday"].weight.zero_()
            encoder.wide[0][0].moment["weekday"].weight.zero_()
        assert torch.equal(query(1, 2), query(3, 2))
        assert not torch.equal(query(1, 2), query(1, 4))


def test_masked_steps_are_unknown_to_heads() -> None:
    head, items = DIN(4), torch.randn(7, 4)
    encoding = Encoding(torch.randn(1, 4), items, Ego(None, items), past=Past(torch.tensor([[0, 3, MASK, 5]])))
    assert steps_of(asked(head, encoding), 4)[2].tolist() == [[False, True, False, True]]


def test_dropout_of_a_tower_acts_on_both_vectors() -> None:
    head, x = MLP(4, 0.5), torch.randn(3, 4)
    for prepare in (head.prepare_query, head.prepare_items):
        head.train()
        assert not torch.equal(prepare(x), prepare(x))
        head.eval()
        assert torch.equal(prepare(x), prepare(x))


def test_dcn_dropout() -> None:
    assert DCN(4, dropout=0.25).parts["deep"].dropout == 0.25


def test_bert_masked_option() -> None:
    assert BERT4Rec(3, 5, dim=4, masked=0.6).masked == 0.6


def test_blocks_end_between_batches(monkeypatch) -> None:
    table = random_interactions()
    for constant in ("BLOCK", "BLOCK_NEGATIVES"):
        with monkeypatch.context() as patch:
            patch.setattr(batches, constant, 10)
            made = batches.Batches(
                table, 4, torch.Generator().manual_seed(0), torch.Generator().manual_seed(0), sampler=Uniform(table)
            )
            sizes = [len(batch.items) for batch in made]
            assert len(sizes) == len(made)
            assert set(sizes[:-1]) == {4}


def click_table(count=40):
    rows = test_clicks.table([float(n % 6) for n in range(count)], time=pl.Series([n * 3600 for n in range(count)]))
    return Interactions(rows.frame.with_columns(label=(pl.col("rating") > 3).cast(pl.Int8)), rows.users, rows.items)


def test_clicks_order_is_of_its_generator() -> None:
    table = click_table()

    def rows(seed):
        g = torch.Generator().manual_seed(seed)
        return torch.cat([b.users for b in ClickBatches(table, 8, g, g)])

    assert torch.equal(rows(1), rows(1))
    assert not torch.equal(rows(1), rows(2))
    g = torch.Generator()
    assert all(batch.generator is g for batch in ClickBatches(table, 8, g, g, views=g))


def test_modalities_keep_their_order() -> None:
    content = Content({f"m{n}": Modality(torch.randn(3, 2), torch.ones(3, dtype=torch.bool)) for n in range(12)})
    assert list(unpack_content(pack_content(content)).items) == list(content.items)


def test_ple_of_three_levels() -> None:
    with isolated(0, "t"):
        sharing = PLE(3, ["rank", "sex"], ["rank"], hidden=5, levels=3, residual=False).double()
    x = torch.randn(2, 3, dtype=torch.float64)
    side, common = sharing.sides["query"], x
    vectors = {"rank": x, "sex": x}
    for level in side.levels:
        own = {t: level.own[t](v) for t, v in vectors.items()}
        shared = level.shared(common)
        mixed = {
            t: (level.gates[t](v).softmax(-1).unsqueeze(-1) * torch.cat([own[t], shared], -2)).sum(-2)
            for t, v in vectors.items()
        }
        if level.shared_gate is not None:
            common = (level.shared_gate(common).softmax(-1).unsqueeze(-1) * torch.cat([*own.values(), shared], -2)).sum(
                -2
            )
        vectors = mixed
    for task, vector in sharing("query", x).items():
        torch.testing.assert_close(vector, vectors[task])


HEADED = [
    name for name, kind in registry.objectives.components().items() if "head" in inspect.signature(kind).parameters
]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", HEADED)
def test_an_objective_scores_with_its_own_head(name, shared) -> None:
    encoder, inputs, _ = hybrid()
    encoder.eval()
    with isolated(1, "heads"):
        mlp = MLP(4, hidden=(5,))
    users, items = torch.tensor([3, 0, 3, 7]), torch.tensor([1, 4, 0, 6])
    negatives = torch.tensor([[5, 11], [12, 3]]) if shared else torch.tensor([[5, 8], [1, 9], [6, 10], [4, 2]])
    batch = Batch(
        replace(inputs, users=users),
        items,
        negatives,
        (torch.tensor([1]), torch.tensor([], dtype=torch.long)) if shared else None,
        labels={"click": torch.tensor([1.0, 0.0, 0.0, 1.0])},
    )

    def value(objective, heads):
        model = Recommender(encoder, heads)
        some = replace(batch, generator=torch.Generator().manual_seed(0))
        return objective(model, some, encoder(some.inputs))

    more = {"item_weight": 10.0} if name == "ultragcn" else {}
    plain = value(registry.objectives.build({"name": name, **more}), {"rank": mlp})
    other = value(registry.objectives.build({"name": name, "head": "other", **more}), {"rank": Dot(4), "other": mlp})
    torch.testing.assert_close(other, plain)
    assert not torch.isclose(plain, value(registry.objectives.build(name), {"rank": Dot(4)}))


def test_heads_learn_from_chunks_of_clcrec(monkeypatch) -> None:
    encoder, inputs, _ = hybrid()
    model = Recommender(encoder.eval(), {"rank": MLP(4, hidden=(5,))})
    found = []
    for floats in (2**23, 1):
        monkeypatch.setattr(rows, "CHUNK_FLOATS", floats)
        batch = Batch(
            replace(inputs, users=torch.tensor([3, 0, 3, 7])),
            torch.tensor([1, 4, 0, 6]),
            torch.tensor([[5, 8], [1, 9], [6, 10], [4, 2]]),
            generator=torch.Generator().manual_seed(0),
        )
        model.zero_grad()
        CLCRec()(model, batch, encoder(batch.inputs)).backward()
        found.append([None if p.grad is None else p.grad.clone() for p in model.heads.parameters()])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", ["view_contrast", "layer_contrast"])
def test_users_and_items_have_their_own_weights(name) -> None:
    table = random_interactions()
    graph = graph_of(table)
    model = Recommender(LightGCN(12, 17, dim=4, num_layers=2), {"rank": Dot(4)}, graph=graph)
    batch = Batch(Inputs(torch.tensor([3, 0, 7]), graph=graph), torch.tensor([1, 4, 0]))

    def value(**weights):
        objective = registry.objectives.build({"name": name, **weights})
        return objective(model, batch, model.encoder(objective.inputs(batch.inputs, batch)))

    encoding = model.encoder(batch.inputs)
    if name == "view_contrast":
        users = encoding.query
        expected = info_nce(users, users, torch.arange(3), temperature=0.2)
        torch.testing.assert_close(value(user_weight=1.0, item_weight=0.0), expected)
    one, two = value(user_weight=1.0, item_weight=0.0), value(user_weight=0.0, item_weight=1.0)
    torch.testing.assert_close(value(user_weight=2.0, item_weight=0.5), 2 * one + 0.5 * two)


def predictions(kind, rows, width, seed):
    rng = np.random.default_rng(seed)
    targets = np.random.default_rng(0).integers(2, size=(rows, width))
    if kind == "tags":
        targets[:, 0] = 1
    return Predictions(kind, rng.normal(size=(rows, width)), targets if kind == "tags" else targets[:, 0])


def test_resamples_do_not_depend_on_chunks(monkeypatch) -> None:
    rows = {name: {0: predictions("classes", 30, 2, seed)} for seed, name in enumerate(["a", "b"])}
    whole = resampling.compare_predictions(rows, "a", resamples=50)
    monkeypatch.setattr(resampling, "CHUNK", 30 * 7)
    assert resampling.compare_predictions(rows, "a", resamples=50) == whole


def test_a_tag_that_all_have_counts_in_no_resample() -> None:
    one = predictions("tags", 30, 3, 1)
    found = resampling.resampled(one, np.ones((1, 30), dtype=int))
    for metric, value in measure(one).items():
        assert found[metric][0] == pytest.approx(value), metric


def test_content_contrast_is_summed_in_32_bits() -> None:
    one, two = torch.randn(300, 8), torch.randn(300, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = both_ways(one, two, temperature=0.2)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, both_ways(one, two, temperature=0.2), rtol=2e-3, atol=0)


@pytest.mark.parametrize("name", ["sasrec", "bert4rec", "gru4rec", "attentive", "pooling"])
def test_perturbation_of_hidden_vectors(name) -> None:
    with isolated(0, "m"):
        encoder = registry.encoders.build({"name": name, "dim": 4, "max_length": 5}, 4, 7).eval()
    history = torch.tensor([[1, 2, 3], [0, 4, 5]])

    def query(perturb=lambda h: h):
        return encoder(Inputs(torch.tensor([0, 1]), history, perturb=perturb)).query

    table = encoder.items.weight
    steps = query(
        lambda h: h if h.data_ptr() == table.data_ptr() else h + torch.arange(h.shape[-1])
    )  # all but the items
    assert not torch.allclose(steps, query())


def test_options_of_sequence_encoders_reach_their_layers() -> None:
    for name in ("attentive", "gru4rec", "pooling", "sasrec", "bert4rec"):
        encoder = registry.encoders.build({"name": name, "dropout": 0.25}, 4, 7)
        assert encoder.dropout.p == 0.25, name
    assert registry.encoders.build({"name": "gru4rec", "num_layers": 3, "hidden": 6}, 4, 7).units.num_layers == 3
