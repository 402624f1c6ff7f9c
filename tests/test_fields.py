"""The encoder `fields` and its heads equal loops over values, and rank a catalogue as they predict clicks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import references
import references_fields as naive
import torch
from cases import random_content, random_interactions
from torch import Tensor, nn

from recgraph import registry
from recgraph.baselines.content_knn import nearest_warm
from recgraph.data.content import joined
from recgraph.data.modalities import FittedModality, ModalitySettings, fit_modality
from recgraph.encoders import Fields
from recgraph.errors import ConfigError
from recgraph.heads import Head, neural
from recgraph.heads.parts import LinearPart
from recgraph.layout import Layout
from recgraph.models.model import catalogue_of
from recgraph.models.recommender import Recommender
from recgraph.random import isolated
from recgraph.types import Content, Inputs, Modality

USERS, ITEMS = 5, 7
MOMENT = {"hour": 17, "weekday": 2}
CROSSES = [["user", "genres"], ["genres", "job"], ["hour", "item"], ["job", "hour"], ["genres", "item"]]
WIDE = ["linear", "fm", "wide_deep", "deepfm"]
HEADS: dict[str, dict[str, Any]] = {
    "linear": {},
    "fm": {},
    "wide_deep": {"hidden": [6, 4]},
    "deepfm": {"hidden": [6, 4]},
    "dcn": {"hidden": [6, 4], "num_layers": 3},
}


def ids(*rows: list[int]) -> Modality:
    values = torch.tensor(rows)
    return Modality(values, (values > 0).any(1))


def content() -> Content:
    generator = torch.Generator().manual_seed(3)
    genres = ids([1, 3, 0], [2, 0, 0], [0, 0, 0], [1, 2, 3], [3, 0, 0], [2, 3, 0], [1, 0, 0])
    year = Modality(torch.randn(ITEMS, 1, generator=generator).double(), torch.ones(ITEMS, dtype=torch.bool))
    return Content({"genres": genres, "year": year}, {"job": ids([2], [1], [0], [2], [4])})


def build(head: str, *, crosses: bool = True, context: bool = True, **options: Any) -> Recommender:
    wide = head in WIDE
    encoder = {"name": "fields", "dim": 3, "std": 0.5, "wide": wide, "buckets": 11, **options}
    if crosses and wide:
        encoder["crosses"] = [pair for pair in CROSSES if context or "hour" not in pair]
    if context:
        encoder["context"] = list(MOMENT)
    with isolated(0, "modules"):
        made = Recommender.build(
            USERS, ITEMS, {"encoder": encoder, "heads": {"rank": {"name": head, **HEADS[head]}}}, None, content()
        )
        made = made.double()
        for parameter in made.parameters():  # weights and biases begin at 0, where nothing would tell
            parameter.data += 0.3 * torch.randn_like(parameter)
    return made


def layers_of(modules: Any) -> list[tuple[Tensor, Tensor]]:
    return [(layer.weight, layer.bias) for layer in modules if isinstance(layer, nn.Linear)]


def halves(part: Any) -> tuple[Tensor, Tensor]:
    return torch.cat([part.query_layer.weight, part.item_layer.weight], 1), part.query_layer.bias


def score(model: Recommender, user: int, item: int) -> Tensor:
    """The score of a pair, by loops."""
    encoder, parts, known = model.encoder, model.heads["rank"].parts, model.content
    moment = {name: MOMENT[name] for name in encoder.context}
    vectors = naive.fields(encoder.users, user, known.users, moment) + naive.fields(
        encoder.items, item, known.items, {}
    )
    everything, total = torch.cat(vectors), torch.zeros((), dtype=torch.float64)
    if "wide" in parts:
        for side, row, modalities, now in ((0, user, known.users, moment), (1, item, known.items, {})):
            total = total + sum(naive.fields(encoder.wide[side][0], row, modalities, now)).squeeze()
        own = {"user": [user + 1 if user < USERS else 0], "item": [item + 1 if item < ITEMS else 0]}
        listed = {**own, "hour": [MOMENT["hour"] + 1]}
        listed |= {
            "job": known.users["job"].values[user].tolist(),
            "genres": known.items["genres"].values[item].tolist(),
        }
        for pair in encoder.across:
            weights = parts["wide"].crosses[encoder.across.index(pair)]
            total = total + naive.crosses(listed[pair[0]], listed[pair[1]], weights)
        for side, inner in enumerate(encoder.within):
            for pair, table in zip(inner, encoder.wide[side][1:], strict=True):
                total = total + naive.crosses(listed[pair[0]], listed[pair[1]], table.weight)
        total = total + parts["wide"].bias[0]
    if "pairs" in parts:
        total = total + naive.factorisation(vectors)
    if "cross" in parts:
        crossed = naive.cross_layers(everything, [halves(parts["cross"]), *layers_of(parts["cross"].layers)])
        total = total + parts["cross"].output.weight[0] @ crossed + parts["cross"].output.bias[0]
    if "deep" in parts:
        last = references.tower(everything, [halves(parts["deep"]), *layers_of(parts["deep"].layers)])
        total = total + parts["deep"].output.weight[0] @ last + parts["deep"].output.bias[0]
    return total


def moments(*shape: int) -> Tensor:
    return torch.tensor(list(MOMENT.values())).expand(*shape, 2)


@pytest.mark.parametrize("head", HEADS)
def test_scores_and_gradients_equal_loops(head: str) -> None:
    model, users = build(head), torch.tensor([3, 0, 2, 3, 4])
    expected = torch.stack(
        [torch.stack([score(model, user, item) for item in range(ITEMS)]) for user in users.tolist()]
    )
    encoding = model.encoder(Inputs(users, content=model.content, context=moments(5)))
    items = torch.arange(ITEMS).expand(5, ITEMS)
    weights = torch.linspace(1, 2, expected.numel(), dtype=torch.float64).view(expected.shape)
    parameters = [value for name, value in model.named_parameters() if head != "linear" or "wide" in name.split(".")]
    wanted = torch.autograd.grad((expected * weights).sum(), parameters)
    for found in (
        model.score(encoding),
        model.score(encoding, items),
        torch.stack([model.score_pairs(encoding, items[:, item]) for item in range(ITEMS)], 1),
    ):
        torch.testing.assert_close(found, expected)
        gradients = torch.autograd.grad((found * weights).sum(), parameters, retain_graph=True)
        torch.testing.assert_close(gradients, wanted)
    rows = [users.repeat_interleave(ITEMS), items.flatten()]
    torch.testing.assert_close(model.eval().predict(*rows, moments(5 * ITEMS)), expected.flatten())
    assert all(gradient.abs().sum() > 0 for gradient in wanted)  # so no parameter is dead


def test_newcomers_have_no_weights_of_other_pairs_crosses() -> None:
    model, known = build("wide_deep").eval(), content()
    users = {name: joined(one, Modality(one.values[:1], one.present[:1])) for name, one in known.users.items()}
    items = {name: joined(one, Modality(one.values[3:4], one.present[3:4])) for name, one in known.items.items()}
    more = model.enlarged(USERS + 1, ITEMS, None, Content(known.items, users))
    more = more.enlarged(USERS + 1, ITEMS + 1, None, Content(items, users)).double()
    pairs = [(user, item) for user in (0, USERS) for item in (3, ITEMS)]
    expected = torch.stack([score(more, *pair) for pair in pairs])
    torch.testing.assert_close(more.predict(*torch.tensor(pairs).T, moments(4)), expected)


@pytest.mark.parametrize("head", HEADS)
def test_no_rows_have_no_scores(head: str) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    found = build(head).eval().predict(none, none, moments(0))
    assert (found.shape, found.dtype) == ((0,), torch.float64)


@pytest.mark.parametrize("floats", [1, 30, 200])
@pytest.mark.parametrize("head", HEADS)
def test_chunks_of_a_catalogue_change_nothing(head: str, floats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(head, context=False).eval()
    whole = model.scorer()(torch.arange(USERS))
    monkeypatch.setattr(neural, "CHUNK_FLOATS", floats)
    torch.testing.assert_close(model.scorer()(torch.arange(USERS)), whole)


def test_memory_of_crosses_over_a_catalogue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(1, wide=True, crosses=((1, 4), (1, 1)), buckets=100)
    head, sizes, match = LinearPart(7, layout), [], LinearPart.match

    def watched(self: LinearPart, query: Tensor, items: Tensor) -> Tensor:
        found = match(self, query, items)
        sizes.append(found.numel())
        return found

    monkeypatch.setattr(LinearPart, "match", watched)
    monkeypatch.setattr(neural, "CHUNK_FLOATS", 4000)
    with torch.no_grad():
        assert head.all_pairs(torch.ones(50, 7), torch.ones(300, 7)).shape == (50, 300)
    assert max(sizes) * 10 * 4 <= 4000
    assert sum(sizes) == 50 * 300


def test_a_cross_tells_apart_what_its_fields_together_cannot() -> None:
    """User and item like each other when they are of the same kind: no sum of weights of each can say so."""
    with isolated(0, "modules"):
        kinds = Content({"genre": ids([1], [2])}, {"job": ids([1], [2])})
        spec = {"encoder": {"name": "fields", "dim": 1, "std": 1e-9, "crosses": [["job", "genre"]], "buckets": 64}}
        model = Recommender.build(2, 2, spec | {"heads": {"rank": {"name": "linear"}}}, None, kinds)
    users, items, labels = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]), torch.tensor([1.0, 0.0, 0.0, 1.0])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        encoding = model.encoder(Inputs(users, content=kinds))
        nn.functional.binary_cross_entropy_with_logits(model.score_pairs(encoding, items), labels).backward()
        optimizer.step()
    assert ((model.predict(users, items) > 0) == (labels > 0)).all()


@pytest.mark.parametrize("head", HEADS)
def test_on_an_encoder_without_fields_query_and_item_are_one_each(head: str) -> None:
    with isolated(0, "modules"):
        spec = {"encoder": {"name": "embedding", "dim": 4}, "heads": {"rank": {"name": head, **HEADS[head]}}}
        model = Recommender.build(USERS, ITEMS, spec, None).double()
    query, items = model.encoder.users.weight, model.encoder.items.weight
    parts: Any = model.heads["rank"].parts
    found = model.scorer()(torch.arange(USERS))[2, 3]
    total = torch.zeros((), dtype=torch.float64)
    if "wide" in parts:
        one, other = parts["wide"].sides
        total = total + one.weight[0] @ query[2] + other.weight[0] @ items[3] + parts["wide"].bias[0]
    if "pairs" in parts:
        total = total + query[2] @ items[3]
    both = torch.cat([query[2], items[3]])
    if "cross" in parts:
        crossed = naive.cross_layers(both, [halves(parts["cross"]), *layers_of(parts["cross"].layers)])
        total = total + parts["cross"].output.weight[0] @ crossed + parts["cross"].output.bias[0]
    if "deep" in parts:
        last = references.tower(both, [halves(parts["deep"]), *layers_of(parts["deep"].layers)])
        total = total + parts["deep"].output.weight[0] @ last + parts["deep"].output.bias[0]
    torch.testing.assert_close(found, total)


def test_dropout_is_of_training_only_and_of_the_stated_share() -> None:
    with isolated(0, "modules"):
        head: Head = registry.heads.build({"name": "wide_deep", "hidden": [2000], "dropout": 0.25}, 3).double()
    query, items = torch.ones(1, 3).double(), torch.ones(1, 3).double()
    deep = head.parts["deep"]
    assert torch.equal(head.eval()(query, items), head(query, items))
    torch.manual_seed(0)
    zeroed = (deep.train()._drop(torch.ones(4000).double()) == 0).double().mean().item()
    assert zeroed == pytest.approx(0.25, abs=0.03)
    assert not torch.equal(head.train()(query, items), head(query, items))


def test_perturbations_leave_weights_and_ids_alone() -> None:
    model = build("linear")
    inputs = Inputs(torch.arange(USERS), content=model.content, context=moments(USERS))
    one, two = model.encoder(inputs), model.encoder(replace(inputs, perturb=lambda hidden: hidden + 1))
    layout = model.encoder.layout
    for side, (before, after) in enumerate(((one.query, two.query), (one.items, two.items))):
        assert torch.equal(before[..., 0], after[..., 0])
        assert torch.equal(layout.ids(before, side), layout.ids(after, side))
        torch.testing.assert_close(layout.fields(before, side) + 1, layout.fields(after, side))


def test_vectors_of_both_sides_are_as_wide_and_the_rest_is_zeros() -> None:
    model = build("dcn")
    encoding = model.encoder(Inputs(torch.arange(USERS), content=model.content, context=moments(USERS)))
    assert encoding.query.shape[1] == encoding.items.shape[1] == model.encoder.dim == 4 * 3
    assert not encoding.items[:, 9:].any()
    assert encoding.items[:, :9].any(0).all()


@pytest.mark.parametrize(
    ("options", "head", "message"),
    [
        ({}, "dot", "Dot takes vectors as they are, and this encoder gives weights beside them"),
        ({}, "dcn", "head dcn has no linear part: set encoder.wide to false"),
        ({"wide": False, "crosses": [["user", "item"]]}, "dcn", "`wide: false` leaves it out"),
        ({"crosses": [["user", "genre"]]}, "linear", "no field 'genre' that has ids. Did you mean 'genres'"),
        ({"crosses": [["user", "year"]]}, "linear", "no field 'year' that has ids"),
        ({"crosses": [["hour", "item"]]}, "linear", "no field 'hour'"),
        ({"context": ["month"]}, "linear", "encoder.context"),
        ({"buckets": 0}, "linear", "encoder.buckets"),
    ],
)
def test_what_does_not_fit_is_refused_at_build(options: dict[str, Any], head: str, message: str) -> None:
    spec = {"encoder": {"name": "fields", **options}, "heads": {"rank": head}}
    with pytest.raises(ConfigError, match=message):
        Recommender.build(USERS, ITEMS, spec, None, content())


def test_experts_do_not_mix_weights_and_ids() -> None:
    spec = {"encoder": {"name": "fields"}, "heads": {"rank": "linear"}, "sharing": "mmoe"}
    with pytest.raises(ConfigError, match="sharing: an expert takes vectors as they are"):
        Recommender.build(USERS, ITEMS, spec, None, content())


@pytest.mark.parametrize("head", ["dot", "towers", "mlp"])
def test_without_weights_any_head_takes_the_vectors(head: str) -> None:
    spec = {"encoder": {"name": "fields", "wide": False}, "heads": {"rank": head}}
    model = Recommender.build(USERS, ITEMS, spec, None, content()).double().eval()
    assert model.scorer()(torch.arange(USERS)).isfinite().all()


def test_a_moment_that_is_read_must_be_given() -> None:
    encoder = Fields(USERS, ITEMS, content(), context=("hour",))
    with pytest.raises(TypeError, match="reads hour of"):
        encoder(Inputs(torch.tensor([0]), content=content()))


def test_crosses_of_a_query_with_an_item_refuse_ids_that_a_float_cannot_hold() -> None:
    many = Modality(torch.tensor([[2**24 + 1]] * ITEMS), torch.ones(ITEMS, dtype=torch.bool))
    with pytest.raises(ConfigError, match=r"encoder\.crosses: sort has 16777217 values; at most 16777216"):
        Fields(USERS, ITEMS, Content({"sort": many}), dim=1, wide=True, crosses=(("user", "sort"),))


def test_a_field_of_which_no_row_has_a_value_adds_nothing() -> None:
    none = Modality(torch.zeros(ITEMS, 1, dtype=torch.int64), torch.zeros(ITEMS, dtype=torch.bool))
    known = Content({"sort": none})
    encoding = Fields(USERS, ITEMS, known, dim=2)(Inputs(torch.tensor([0]), content=known))
    assert encoding.items.isfinite().all()
    assert not encoding.items[:, 3:].any()


def test_layers_over_vectors_refuse_ids() -> None:
    with pytest.raises(ConfigError, match="leave out `ids: true`"):
        Recommender.build(USERS, ITEMS, {"encoder": "content", "heads": {"rank": "dot"}}, None, content())


def test_baselines_by_content_refuse_ids() -> None:
    with pytest.raises(ConfigError, match="leave out `ids: true`"):
        nearest_warm(content(), torch.ones(ITEMS, dtype=torch.bool), 2)


def test_ids_are_counted_from_one_and_new_rows_go_below_old_ones() -> None:
    frame = pl.DataFrame({"tags": [["b", "a"], [], ["c"], ["d"]], "year": [1995.0, None, 1999.0, 1995.0]})
    kinds, known = {"tags": "multi_hot", "year": "numeric"}, np.array([True, True, True, False])

    def fitted(column: str) -> FittedModality:
        settings = ModalitySettings(columns=(column,), ids=True, min_count=1)
        return fit_modality(settings, frame, kinds, known, "content")

    tags = fitted("tags").transform(frame, "content")
    assert tags.values.tolist() == [[1, 2], [0, 0], [3, 0], [0, 0]]  # nobody known has d
    assert tags.present.tolist() == [True, False, True, False]
    assert fitted("year").transform(frame, "content").values.tolist() == [[1], [0], [2], [1]]
    new = fitted("tags").transform(pl.DataFrame({"tags": [["c", "b", "a"]]}), "content")
    assert joined(tags, new).values.tolist() == [[1, 2, 0], [0, 0, 0], [3, 0, 0], [0, 0, 0], [1, 2, 3]]


def test_a_loaded_model_has_its_fields_in_the_order_it_was_trained_with(tmp_path: Path) -> None:
    """`text` is before `tags`, which a file sorts the other way; the head's first layer knows them by their place."""
    table = random_interactions()
    content = random_content(table.num_users, table.num_items, users=True)
    spec = {"encoder": {"name": "fields", "dim": 4}, "heads": {"rank": {"name": "wide_deep", "hidden": [8]}}}
    with isolated(0, "modules"):
        model = Recommender.build(table.num_users, table.num_items, spec, None, content).eval()
        for parameter in model.parameters():
            parameter.data.normal_()
    model.catalogue = catalogue_of(table, [table], None)
    model.save(tmp_path)
    loaded = Recommender.load(tmp_path)
    assert list(loaded.content.items) == list(content.items)
    users = torch.arange(table.num_users)
    assert torch.equal(loaded.scorer()(users), model.scorer()(users))
