"""Every registered head equals a naive reference, scores vectors and catalogues alike, and works on every encoder.

Heads are found by scanning the registry. A new one fails here until `REFERENCES` has a naive version of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import references
import references_fields
import torch
from cases import random_interactions
from rich.console import Console
from torch import Tensor, nn

from recgraph import registry
from recgraph.data import load
from recgraph.encoders import Embedding, Pooling
from recgraph.errors import ConfigError, DataError
from recgraph.experiments.experiment import plan
from recgraph.experiments.running import Settings, execute
from recgraph.heads import DIN, MLP, Cosine, Dot, Head, NeuMF, Towers, neural, target
from recgraph.heads.base import with_steps
from recgraph.models.model import Model
from recgraph.models.recommender import Recommender
from recgraph.random import isolated
from recgraph.types import Inputs

NAMES = list(registry.heads.components())
DIM = 6

Layers = list[tuple[Tensor, Tensor]]


def layers_of(modules: Any) -> Layers:
    return [(layer.weight, layer.bias) for layer in modules if isinstance(layer, nn.Linear)]


def mlp_layers(head: MLP) -> Layers:
    """The first layer as the paper has it, over the two vectors one after the other."""
    first = torch.cat([head.query_layer.weight, head.item_layer.weight], 1), head.query_layer.bias
    return [first, *layers_of(head.layers)]


def mlp(head: MLP, query: Tensor, item: Tensor) -> Tensor:
    last = references.tower(torch.cat([query, item]), mlp_layers(head))
    return sum((w * x for w, x in zip(head.output.weight[0], last, strict=True)), head.output.bias[0])


def neumf(head: NeuMF, query: Tensor, item: Tensor) -> Tensor:
    cut, (one, other) = head.gmf.dim, (head.gmf.output, head.mlp.output)
    output, bias = torch.cat([one.weight[0], other.weight[0]]), one.bias[0] + other.bias[0]
    return references.neumf((query[:cut], item[:cut]), (query[cut:], item[cut:]), mlp_layers(head.mlp), output, bias)


def fields(head: Any, query: Tensor, item: Tensor) -> Tensor:
    """A head for fields: query and item are one each."""
    both, parts, total = torch.cat([query, item]), head.parts, torch.zeros((), dtype=query.dtype)
    if "wide" in parts:
        one, other = parts["wide"].sides
        total = total + one.weight[0] @ query + other.weight[0] @ item + parts["wide"].bias[0]
    if "pairs" in parts:
        total = total + query @ item
    if "cross" in parts:
        layers = [
            (
                torch.cat([parts["cross"].query_layer.weight, parts["cross"].item_layer.weight], 1),
                parts["cross"].query_layer.bias,
            )
        ]
        crossed = references_fields.cross_layers(both, [*layers, *layers_of(parts["cross"].layers)])
        total = total + parts["cross"].output.weight[0] @ crossed + parts["cross"].output.bias[0]
    return total + mlp(parts["deep"], query, item) if "deep" in parts else total


def towers(head: Towers, query: Tensor, item: Tensor) -> Tensor:
    sides = []
    for vector, modules in ((query, head.query_tower), (item, head.item_tower)):
        *below, (weight, bias) = layers_of(modules)
        sides.append(weight @ references.tower(vector, below) + bias)
    return (sides[0] * sides[1]).sum()


def din(head: DIN, query: Tensor, item: Tensor) -> Tensor:
    """From the wide query: the vector, the steps one after the other, and 1 for each that is there."""
    length = (len(query) - DIM) // (DIM + 1)
    own, steps = query[:DIM], [query[DIM * (1 + n) : DIM * (2 + n)] for n in range(length)]
    known = [step for step, there in zip(steps, query[DIM * (1 + length) :], strict=True) if there]
    side = head.from_item, head.from_step, head.from_difference, head.from_product
    attention = [(torch.cat([part.weight for part in side], 1), head.from_item.bias), *layers_of(head.attention)]
    side = head.query_layer, head.found_layer, head.item_layer, head.both_layer
    tower = [(torch.cat([part.weight for part in side], 1), head.query_layer.bias), *layers_of(head.tower)]
    return references.din(own, known, item, attention, tower, softmax=head.softmax)


REFERENCES: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {
    "din": din,
    "dot": lambda head, query, item: sum(a * b for a, b in zip(query, item, strict=True)),
    "cosine": lambda head, query, item: (query * item).sum() / (query.square().sum() * item.square().sum()).sqrt(),
    "gmf": lambda head, query, item: references.gmf(query, item, head.output.weight[0], head.output.bias[0]),
    "mlp": mlp,
    "neumf": neumf,
    "towers": towers,
    **dict.fromkeys(("linear", "fm", "wide_deep", "deepfm", "dcn"), fields),
}
"""Head, vector of the query, vector of the item -> score, by loops."""

OPTIONS: dict[str, dict[str, Any]] = {
    "din": {"attention": [5, 4, 3], "hidden": [7, 3]},
    "mlp": {"hidden": [5, 4, 3]},
    "neumf": {"gmf_dim": 2, "hidden": [5, 3]},
    "towers": {"hidden": [5, 3]},
    "wide_deep": {"hidden": [5, 4]},
    "deepfm": {"hidden": [5, 4]},
    "dcn": {"hidden": [5, 4], "num_layers": 3},
}
"""Where defaults would hide a mistake: no two widths alike."""


def build(name: str, *, dim: int = DIM) -> Head:
    with isolated(0, "modules"):
        head: Head = registry.heads.build({"name": name, **OPTIONS.get(name, {})}, dim).double()
        for parameter in head.parameters():  # biases begin at 0, where nothing would tell
            parameter.data += 0.3 * torch.randn_like(parameter)
    return head


def vectors(*shape: int, dim: int = DIM, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dim, dtype=torch.float64, generator=generator, requires_grad=True)


def queries(name: str, *shape: int, length: int = 4, seed: int = 0) -> Tensor:
    """Queries such as the head wants: with histories, if it looks at them, of which the last row has none."""
    query = vectors(*shape, seed=seed)
    if "history" not in registry.heads.find(name).reads:
        return query
    known = torch.arange(length) >= torch.arange(query[..., 0].numel()).view(*shape, 1) * length // 2
    wide = with_steps(query, vectors(*shape, length, seed=seed + 7) * known.unsqueeze(-1), known)
    return wide.detach().requires_grad_()


def with_gradients(head: Head, scores: Tensor, *inputs: Tensor) -> list[Tensor]:
    weights = torch.linspace(1, 2, scores.numel(), dtype=scores.dtype).view(scores.shape)
    gradients = torch.autograd.grad((scores * weights).sum(), [*inputs, *head.parameters()])
    return [scores.detach(), *gradients]


@pytest.mark.parametrize("name", NAMES)
def test_scores_and_gradients_equal_a_naive_reference(name: str) -> None:
    head, query, items = build(name), queries(name, 3), vectors(7, seed=1)
    expected = torch.stack([torch.stack([REFERENCES[name](head, one, other) for other in items]) for one in query])
    expected_all = with_gradients(head, expected, query, items)
    torch.testing.assert_close(with_gradients(head, head.all_pairs(query, items), query, items), expected_all)
    aligned = head(query.unsqueeze(1), items)
    torch.testing.assert_close(with_gradients(head, aligned, query, items), expected_all)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [(), (3,), (3, 2)])
def test_a_catalogue_is_scored_like_its_pairs(name: str, batch: tuple[int, ...]) -> None:
    head, query, items = build(name), queries(name, *batch), vectors(5, seed=1)
    every = head.all_pairs(query, items)
    assert every.shape == (*batch, 5)
    for item in range(5):
        torch.testing.assert_close(every[..., item], head(query, items[item].expand(*batch, DIM)))
    assert head.all_pairs(query, items[:0]).shape == (*batch, 0)


@pytest.mark.parametrize("floats", [1, 10, 15, 40])
@pytest.mark.parametrize("name", NAMES)
def test_chunks_change_nothing(name: str, floats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    head, query, items = build(name), queries(name, 4), vectors(7, seed=1)
    whole = with_gradients(head, head.all_pairs(query, items), query, items)
    monkeypatch.setattr(neural, "CHUNK_FLOATS", floats)
    monkeypatch.setattr(target, "CHUNK_FLOATS", 10 * floats)
    torch.testing.assert_close(with_gradients(head, head.all_pairs(query, items), query, items), whole)


def kept_by(score: Callable[[], Tensor], *sides: Tensor) -> float:
    """Floats that autograd keeps for each pair, beside the sides and what a head prepares of them."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = score()
    floats = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / 8  # of double
    return (floats - 4 * sum(side.numel() for side in sides)) / scores.numel()


@pytest.mark.parametrize("name", NAMES)
def test_what_a_pair_keeps_for_its_gradient_is_as_much_as_a_head_says(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objectives size their chunks by `pair_floats`. DIN's walk keeps to bounds of its own."""
    monkeypatch.setattr(target, "CHUNK_FLOATS", 1000)
    head, query, items = build(name), queries(name, 40), vectors(50, seed=1)
    found = kept_by(lambda: head.all_pairs(query, items), query, items, *head.parameters())
    assert found <= head.pair_floats
    if name != "din":  # nor does it say far more
        assert head.pair_floats <= 2 * max(1, found) + 20
    assert kept_by(lambda: head(query.unsqueeze(1), items), query, items, *head.parameters()) <= head.pair_floats + DIM


def test_layers_that_drop_inputs_keep_these_too() -> None:
    head, query, items = MLP(DIM, 0.3, hidden=(9, 7, 5)).double(), vectors(40), vectors(50, seed=1)
    found = kept_by(lambda: head.all_pairs(query, items), query, items, *head.parameters())
    assert sum((9, 7, 5)) < found <= head.pair_floats


@pytest.mark.parametrize("hidden", [(16, 4), (4, 16), (2, 16, 3)])
def test_memory_of_a_catalogue_is_bounded(hidden: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    head, sizes = MLP(8, hidden=hidden), []
    match = MLP.match

    def watched(self: MLP, query: Tensor, items: Tensor) -> Tensor:
        sizes.append(torch.broadcast_shapes(query.shape[:-1], items.shape[:-1]).numel() * max(hidden))
        return match(self, query, items)

    monkeypatch.setattr(MLP, "match", watched)
    monkeypatch.setattr(neural, "CHUNK_FLOATS", 1000)
    with torch.no_grad():
        assert head.all_pairs(torch.randn(50, 8), torch.randn(300, 8)).shape == (50, 300)  # a query is too large
        head.all_pairs(torch.randn(50, 8), torch.randn(7, 8))  # several queries fit
    assert max(sizes) <= 1000
    assert len(sizes) == 50 * -(-300 // 62) + -(-50 // 8)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_gradient(name: str) -> None:
    head = build(name)
    head(queries(name, 20), vectors(20, seed=1)).square().sum().backward()
    for parameter, value in head.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", NAMES)
def test_dtype_is_kept(name: str) -> None:
    for dtype in (torch.float32, torch.float64):
        head, query, items = build(name).to(dtype), queries(name, 3).to(dtype), vectors(5).to(dtype)
        assert head.all_pairs(query, items).dtype == head(query, items[:3]).dtype == dtype


@pytest.mark.parametrize("name", NAMES)
def test_query_and_item_each_move_the_score(name: str) -> None:
    head, query, items = build(name), queries(name, 3), vectors(5, seed=1)
    scores = head.all_pairs(query, items)
    changed = head.all_pairs(torch.cat([query[..., :DIM].flip(-1), query[..., DIM:]], -1), items)
    assert not torch.isclose(changed, scores).all(1).any()
    assert not torch.isclose(head.all_pairs(query, items.flip(-1)), scores).all(0).any()


@pytest.mark.parametrize("few", [2, 40])
@pytest.mark.parametrize("name", NAMES)
def test_a_step_scores_the_same_whichever_side_of_the_lookup_is_prepared(name: str, few: int) -> None:
    table = random_interactions()
    with isolated(0, "modules"):
        kind = Pooling if "history" in registry.heads.find(name).reads else Embedding
        encoder = kind(table.num_users, table.num_items, dim=DIM, std=1.0).double()
    recommender = Recommender(encoder, {"rank": build(name)})
    recommender.observe(table)
    encoding = encoder(Inputs(torch.tensor([3, 0, 3]), table.histories.last(torch.tensor([3, 0, 3]), 50)))
    items = torch.arange(3 * few).view(3, few) % table.num_items
    every = recommender.score(encoding)
    torch.testing.assert_close(recommender.score(encoding, items), every.gather(1, items))
    torch.testing.assert_close(recommender.score(encoding, items[0]), every[:, items[0]])
    torch.testing.assert_close(recommender.scorer()(torch.tensor([3, 0, 3])), every)


def test_dot_and_cosine_in_figures() -> None:
    query, items = torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0], [0.0, 0.0]])
    assert Dot(2).all_pairs(query, items).tolist() == [[24.0, 0.0]]
    torch.testing.assert_close(Cosine(2).all_pairs(query, items), torch.tensor([[0.96, 0.0]]))


def test_first_values_have_the_spread_that_is_stated() -> None:
    with isolated(0, "modules"):
        head = MLP(64, hidden=(128, 64))
    bound = (6 / (2 * 64 + 128)) ** 0.5  # of one layer over both vectors, not of its halves
    for layer, limit in ((head.query_layer, bound), (head.item_layer, bound), (head.output, (3 / 64) ** 0.5)):
        assert 0.9 * limit < layer.weight.abs().max() <= limit
    assert all(not bias.any() for name, bias in head.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize(
    ("dim", "options", "message"),
    [
        (8, {"gmf_dim": 8}, "gmf_dim is 8, of an encoder of dim 8: expected 1 to 7"),
        (1, {}, "gmf_dim is 0, of an encoder of dim 1"),
        (8, {"gmf_dim": 0}, "gmf_dim"),
        (8, {"hidden": []}, "heads.rank.hidden"),
        (8, {"hidden": [8, 0]}, "heads.rank.hidden"),
    ],
)
def test_widths_that_cannot_be_are_refused_at_build(dim: int, options: dict[str, Any], message: str) -> None:
    parts = {"encoder": {"name": "embedding", "dim": dim}, "heads": {"rank": {"name": "neumf", **options}}}
    with pytest.raises(ConfigError, match=message):
        Recommender.build(5, 7, parts, None)


ENCODERS = list(registry.encoders.components())
PAIRS = [
    (encoder, head)
    for encoder in ENCODERS
    for head in NAMES
    if head in ("dot", "din") or encoder in ("lightgcn", "hybrid", "sasrec", "fields")
]
"""Every encoder with a head of vectors and one of histories, and every head with an encoder of each kind;
tests/test_pairing.py trains all pairs."""


@pytest.mark.parametrize(("encoder", "head"), PAIRS)
def test_heads_and_encoders_train_and_are_saved(encoder: str, head: str, toy: Path) -> None:
    pl.DataFrame({"id": [f"i{item}" for item in range(40)], "vector": np.eye(4)[np.arange(40) % 4]}).write_parquet(
        toy.parent / "data" / "kinds.parquet"
    )
    inner: dict[str, Any] = {"dim": DIM}
    if encoder == "hybrid":
        inner = {"graph": {"name": "lightgcn", "dim": DIM}, "dropout": 0.5}
    if encoder == "fields":
        inner["wide"] = head in ("linear", "fm", "wide_deep", "deepfm")  # others take vectors as they are
    changes = {
        "encoder": {"name": encoder, **inner},
        "heads.rank": {"name": head, **OPTIONS.get(head, {})},
        "objectives.rank": "bce",
        "negatives": {"name": "uniform", "num": 4},
        "train": {"max_epochs": 2, "validate_every": 1, "patience": 2, "batch_size": 10_000, "monitor": "ndcg@10"},
    }
    reads = registry.encoders.find(encoder).reads
    if "history" in reads:
        changes["sequences.targets"] = "masked" if encoder == "bert4rec" else "every"
    if "content" in reads:
        changes["content"] = {"kinds": {"file": "kinds.parquet"}}
    if registry.heads.find(head).reads - reads:
        with pytest.raises(ConfigError, match=rf"{head} looks at .*, which encoder {encoder} does not read; these do"):
            plan(toy, rows=["LightGCN"], seeds=[0], overrides=changes)
        return
    (run,) = plan(toy, rows=["LightGCN"], seeds=[0], overrides=changes)
    result = execute(run, Path("runs"), settings=Settings(torch.device("cpu")), console=Console(quiet=True))
    assert all(0 <= value <= 1 for value in result["test"].values())
    one, two = (Model.load(run.folder(Path("runs"))).scorer()(torch.arange(60)) for _ in range(2))
    assert one.isfinite().all()
    assert torch.equal(one, two)


def test_din_is_the_papers_without_a_softmax() -> None:
    with isolated(0, "modules"):
        head = DIN(DIM, attention=(5,), hidden=(4,), softmax=False).double()
    query, items = queries("din", 3), vectors(7, seed=1)
    expected = torch.stack([torch.stack([din(head, one, other) for other in items]) for one in query])
    torch.testing.assert_close(head.all_pairs(query, items), expected)


@pytest.mark.parametrize("softmax", [True, False])
def test_what_din_weighs_depends_on_the_item_and_leaves_padding_out(softmax: bool) -> None:
    head = registry.heads.build({"name": "din", "softmax": softmax}, DIM).double()
    query, items = queries("din", 3), vectors(2, seed=1)
    weights = head.weights(query.unsqueeze(1), items)["history"]
    assert weights.shape == (3, 2, 4)
    assert not torch.isclose(weights[0, 0], weights[0, 1]).any()
    assert (weights[1, :, :2] == 0).all()  # of four steps, the second row has two and the last none
    assert (weights[2] == 0).all()
    if softmax:
        torch.testing.assert_close(weights.sum(-1)[:2], torch.ones(2, 2, dtype=torch.float64))


def test_steps_of_no_user_reach_dins_score() -> None:
    """Padding as wide as you like, and whatever stands in it, is as good as none."""
    head, query, items = build("din"), queries("din", 2), vectors(3, seed=1)
    own, steps, known = query[:, :DIM], query[:, DIM:-4].unflatten(-1, (4, DIM)), query[:, -4:] > 0
    padded = torch.cat([torch.full((2, 3, DIM), 9.0, dtype=torch.float64), steps], 1)
    wide = with_steps(own, padded, torch.cat([torch.zeros(2, 3, dtype=torch.bool), known], 1))
    torch.testing.assert_close(head.all_pairs(wide, items), head.all_pairs(query, items))


def test_memory_of_din_is_bounded_in_training_too(monkeypatch: pytest.MonkeyPatch) -> None:
    head, sizes = build("din"), []
    scores = DIN._scores

    def watched(self: DIN, query: Tensor, items: Tensor) -> Tensor:
        sizes.append(torch.broadcast_shapes(query.shape[:-1], items.shape[:-1]).numel() * 4 * DIM)
        return scores(self, query, items)

    monkeypatch.setattr(DIN, "_scores", watched)
    monkeypatch.setattr(target, "CHUNK_FLOATS", 1000)
    query, items = queries("din", 20), vectors(30, seed=1)
    head.all_pairs(query, items).sum().backward()
    head(query.unsqueeze(1), items).sum().backward()
    assert max(sizes) <= 1000
    assert len(sizes) == 2 * (20 + 20)  # each chunk once more for its gradient
    sizes.clear()
    head(queries("din", 100), vectors(100, seed=1)).sum().backward()
    assert max(sizes) <= 1000
    assert len(sizes) == 2 * -(-100 // 41)


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("floats", [2**20, 50])
def test_a_catalogue_for_din_equals_its_pairs_and_looks_at_a_step_once(
    softmax: bool, floats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a gradient there is a table of steps and items, in which the same item in two histories is one row."""
    head = registry.heads.build({"name": "din", **OPTIONS["din"], "softmax": softmax}, DIM).double()
    items, looked = vectors(7, seed=1), 0
    history = torch.tensor([[0, 0, 3, 1], [0, 0, 0, 0], [3, 3, 1, 7], [7, 2, 0, 3]])  # hidden in the last, at its third
    steps = torch.cat([torch.zeros(1, DIM, dtype=torch.float64), items])[history]
    query = with_steps(vectors(4), steps, history > 0)
    monkeypatch.setattr(target, "CHUNK_FLOATS", floats)
    pairs = head(query.unsqueeze(1), items)
    expected = torch.stack([torch.stack([din(head, one, other) for other in items]) for one in query])
    torch.testing.assert_close(pairs, expected)

    def count(_: nn.Module, __: Any, logits: Tensor) -> None:
        nonlocal looked
        looked += logits.numel()

    head.attention.register_forward_hook(count)
    with torch.no_grad():
        found = head.all_pairs(query.unflatten(0, (2, 2)), items)
    torch.testing.assert_close(found, pairs.view(2, 2, 7))
    assert looked == 5 * 7  # items 1, 2, 3 and 7, and no step at all


@pytest.mark.parametrize("few", [2, 40])
def test_popularity_is_added_to_a_cosine(few: int) -> None:
    """By whatever way a score is asked for, of what was observed last."""
    table, users = random_interactions(), torch.tensor([3, 0, 3])
    with isolated(0, "modules"):
        encoder = Embedding(table.num_users, table.num_items, dim=DIM, std=1.0).double()
    recommender = Recommender(encoder, {"rank": Cosine(DIM, popularity=0.3), "plain": Cosine(DIM)})
    with pytest.raises(DataError, match="reads popularity: hand `observe`"):
        recommender.scorer()
    encoding = encoder(Inputs(users))
    plain = recommender.score(encoding, head="plain")
    for seen in (table, table.select(np.arange(40))):
        recommender.observe(seen)
        counts = [int((seen.item_indices == item).sum()) for item in range(table.num_items)]
        expected = plain + torch.tensor([0.3 * math.log(1 + count) for count in counts], dtype=torch.float64)
        torch.testing.assert_close(recommender.score(encoding), expected)
        items = torch.arange(3 * few).view(3, few) % table.num_items
        torch.testing.assert_close(recommender.score(encoding, items), expected.gather(1, items))
        torch.testing.assert_close(recommender.score(encoding, items[0]), expected[:, items[0]])
        torch.testing.assert_close(recommender.score_pairs(encoding, items[:, 1]), expected[range(3), items[:, 1]])
        torch.testing.assert_close(recommender.predict(users, items[:, 1]), expected[range(3), items[:, 1]])
        torch.testing.assert_close(recommender.scorer()(users), expected)
        stacked = replace(encoding, items=torch.cat([encoding.items, encoding.items]))  # as an objective may have them
        torch.testing.assert_close(recommender.score(stacked), torch.cat([expected, expected], 1))
        torch.testing.assert_close(recommender.score(stacked, items + 17), expected.gather(1, items))
    assert Recommender(encoder, {"rank": Cosine(DIM)}).popularity is None


def test_pairs_of_one_item_drop_out_each_on_their_own() -> None:
    """Also where a batch has more rows than there are items, and could look up what was prepared of these once."""
    with isolated(0, "modules"):
        recommender = Recommender(Embedding(12, 17, dim=DIM), {"rank": MLP(DIM, 0.5, hidden=(8, 4))})
        users = torch.zeros(40, dtype=torch.long)
        scores = recommender.score_pairs(recommender.encoder(Inputs(users)), users + 3)
    assert len(scores.unique()) > 20


@pytest.mark.parametrize(("encoder", "parity"), [("lightgcn", False), ("lightgcn", True), ("sasrec", False)])
def test_popularity_in_training_is_that_of_the_training_part(encoder: str, parity: bool, toy: Path) -> None:
    """From the first step on, and the model that is saved has that of all interactions it may know."""
    changes = {
        "encoder": {"name": encoder, "dim": DIM},
        "evaluate.parity": parity,  # which looks at the test part after each epoch
        "heads.rank": {"name": "cosine", "popularity": 0.5},
        "objectives.rank": {"name": "softmax", "temperature": 0.5, "logq": True},
        "negatives": {"name": "popularity", "num": 4},
        "train": {"max_epochs": 2, "validate_every": 1, "patience": 2, "batch_size": 10_000, "monitor": "ndcg@10"},
    }
    (run,) = plan(toy, rows=["LightGCN"], seeds=[0], overrides=changes)
    seen: list[Tensor] = []
    score = Recommender.score

    def watched(self: Recommender, *args: Any, **kwargs: Any) -> Tensor:
        seen.append(self.popularity.clone())
        return score(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recommender, "score", watched)
        execute(run, Path("runs"), settings=Settings(torch.device("cpu")), console=Console(quiet=True))
    split = load("toy").split({key: value for key, value in run.config["split"].items() if key != "seed"}, seed=0)
    train = np.log1p(np.bincount(split.train.item_indices, minlength=40)).astype(np.float32)
    both = np.log1p(np.bincount(split.train.concat(split.validation).item_indices, minlength=40)).astype(np.float32)
    assert seen  # steps, from the first on
    assert all(np.allclose(one, train) for one in seen)
    model = Model.load(run.folder(Path("runs")))
    torch.testing.assert_close(model.popularity, torch.from_numpy(both))
