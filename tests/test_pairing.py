"""Every encoder with every head, without contrast and with that of every view: it trains, or is refused with a reason."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cases import graph_of, random_content, random_interactions
from torch import Tensor

from recgraph import registry
from recgraph.data import cards
from recgraph.data.cards import Card
from recgraph.data.interactions import Interactions
from recgraph.encoders import Embedding, Encoder, LightGCN, SequenceEncoder
from recgraph.errors import ConfigError
from recgraph.experiments.batching import sequence_options
from recgraph.experiments.checking import check
from recgraph.experiments.compatibility import check_view, misfit, reads_of
from recgraph.experiments.schema import RunConfig
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.heads import Dot
from recgraph.models.pairing import check_head
from recgraph.models.recommender import Recommender
from recgraph.objectives import Objective, Objectives
from recgraph.random import isolated, torch_generator
from recgraph.sampling.batches import Batches
from recgraph.sampling.negatives import Uniform
from recgraph.sampling.sequences import SequenceBatches
from recgraph.types import Batch, Content, Distinct, Encoding, Past

LIGHTGCN: dict[str, Any] = {"name": "lightgcn", "dim": 4, "num_layers": 1}
ENCODERS: dict[str, dict[str, Any]] = {
    **{name: {"name": name, "dim": 4} for name in registry.encoders.components() if name != "hybrid"},
    "hybrid": {"name": "hybrid", "graph": LIGHTGCN, "shrinkage": 2.0},
    "attentive on lightgcn": {"name": "attentive", "dim": 4, "items": LIGHTGCN},
    "sasrec on content": {"name": "sasrec", "dim": 4, "items": {"name": "content", "dim": 4}},
    "sasrec at every step": {"name": "sasrec", "dim": 4},
}
TARGETS = {"bert4rec": "masked", "sasrec at every step": "every"}
"""Those of the other encoders of histories are the last."""
VARIANTS = {"sasrec on content", "sasrec at every step"}
"""With a contrast they are trained for two heads, to save time: sasrec itself is for all."""

HEADS = list(registry.heads.components())
CONTRASTS: dict[str, dict[str, Any]] = {
    "none": {},
    **{
        name: {
            "ssl": {
                "name": "sequence_contrast" if kind.changes == {"history"} else "view_contrast",
                "weight": 0.1,
                "view": name,
                **({} if kind.draws else {"anchors": "shared"}),
            }
        }
        for name, kind in registry.views.components().items()
    },
    "of layers": {"ssl": {"name": "layer_contrast", "weight": 0.1}},
    "by dropout": {"ssl": {"name": "sequence_contrast", "weight": 0.1}},
    "by target": {"ssl": {"name": "same_target_contrast", "weight": 0.1}},
}
"""By the name of the view, or by what takes its place."""


LINEAR = {"linear", "fm", "wide_deep", "deepfm"}
"""Heads that read the weights which `fields` has beside its vectors; others want it without."""


def spec_of(encoder: str, head: str) -> dict[str, Any]:
    return {**ENCODERS[encoder], **({"wide": head in LINEAR} if encoder == "fields" else {})}


def reason(encoder: str, head: str, contrast: str) -> str | None:
    """Why the three do not go together, or None."""
    reads = reads_of(registry.encoders.check(ENCODERS[encoder], "encoder"))
    if contrast == "of layers" and encoder not in ("lightgcn", "gat", "hybrid"):
        return "gives weights beside them" if encoder == "fields" and head in LINEAR else "compares layers"
    if contrast == "by dropout" and encoder == "pooling":  # whose default is none
        return "would be the same"
    if contrast in ("by dropout", "by target") and "history" not in reads:
        return "gives weights beside them" if encoder == "fields" and head in LINEAR else "does not read"
    if contrast == "by target" and encoder in TARGETS:
        return f"want 'last', got '{TARGETS[encoder]}'"
    if contrast in registry.views.components():
        view = registry.views.find(contrast)
        if encoder == "fields" and head in LINEAR:
            return "gives weights beside them"
        if not view.changes & reads:
            return "does not read"
        if contrast == "reorder" and encoder == "pooling":
            return "does not see"
        if view.leaves is not None and encoder not in ("lightgcn", "attentive on lightgcn"):
            return "cannot read"
    return "looks at" if registry.heads.find(head).reads - reads else None


def config(encoder: str, head: str, contrast: str) -> RunConfig:
    return RunConfig(
        encoder=spec_of(encoder, head),
        heads={"rank": head},
        objectives={"rank": "bce", **CONTRASTS[contrast]},
        content={"text": {"columns": ["title"]}},
        split="random_by_user",
        train={"monitor": "ndcg@10"},
        evaluate={"metrics": ["ndcg@10"]},
        sequences={"targets": TARGETS.get(encoder, "last")},
    )


@cache
def data() -> tuple[Interactions, BipartiteGraph, Content]:
    table = random_interactions()
    return table, graph_of(table), random_content(table.num_users, table.num_items)


def train_two_steps(encoder: str, head: str, contrast: str, card: Card) -> None:
    """On both objectives, then on the contrast alone."""
    table, graph, content = data()
    parts = check(config(encoder, head, contrast), card, "test")
    with isolated(0, "modules"):
        spec = {**parts, "encoder": {key: value for key, value in parts["encoder"].items() if key != "init"}}
        reads = reads_of(spec["encoder"])
        recommender = Recommender.build(
            table.num_users, table.num_items, spec, graph, content if "content" in reads else None
        )
        objectives = Objectives(
            {role: (one.pop("weight"), registry.objectives.build(one)) for role, one in parts["objectives"].items()}
        )
        generators = torch_generator(0, "order"), torch_generator(0, "negatives")
        kind, more = Batches, {}
        if isinstance(recommender.encoder, SequenceEncoder):
            kind = SequenceBatches
            more = sequence_options(recommender.encoder, parts["sequences"], objectives.needs)
        batches = kind(
            *(table, 4, *generators),
            graph=recommender.graph,
            sampler=Uniform(table),
            content=recommender.content,
            views=torch_generator(0, "views"),
            distinct="distinct" in objectives.needs,
            **more,
        )
        before = {name: value.detach().clone() for name, value in recommender.named_parameters()}
        optimizer = torch.optim.Adam(recommender.parameters(), lr=0.01)
        objectives.begin_epoch(recommender, 1, batches.views)
        for step, batch in zip(range(2), batches, strict=False):
            objectives.weights["rank"] = 0.0 if step and contrast != "none" else 1.0
            optimizer.zero_grad()
            total, values = objectives(recommender, batch)
            total.backward()
            optimizer.step()
            assert values.isfinite().all()
            assert any(value.grad is not None and value.grad.any() for value in recommender.encoder.parameters())
        assert step == 1
    moved = [name for name, value in recommender.named_parameters() if not torch.equal(value, before[name])]
    assert any(name.startswith("encoder.") for name in moved)
    assert any(name.startswith("heads.") for name in moved) == any(name.startswith("heads.") for name in before)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_combination_trains_or_is_refused_with_a_reason(encoder: str, toy: Path) -> None:
    card = cards.find("toy")
    for head in HEADS:
        for contrast in CONTRASTS:
            if encoder in VARIANTS and contrast != "none" and head not in ("dot", "din"):
                continue
            why = reason(encoder, head, contrast)
            if why is None:
                train_two_steps(encoder, head, contrast, card)
                continue
            with pytest.raises(ConfigError, match=why):
                check(config(encoder, head, contrast), card, "test")


def test_what_is_known_not_to_go_together() -> None:
    refused = {
        ("lightgcn", "din", "none"): "looks at",
        ("hybrid", "din", "none"): "looks at",
        ("gat", "dot", "svd"): "cannot read",
        ("hybrid", "mlp", "random_walk"): "cannot read",
        ("lightgcn", "dot", "crop"): "does not read",
        ("sasrec", "dot", "edge_drop"): "does not read",
        ("pooling", "din", "none"): None,
        ("bert4rec", "din", "item_mask"): None,
        ("attentive on lightgcn", "din", "edge_drop"): None,
        ("attentive on lightgcn", "neumf", "crop_mask_reorder"): None,
        ("lightgcn", "neumf", "svd"): None,
        ("gat", "neumf", "of layers"): None,
        ("ngcf", "dot", "of layers"): "compares layers",
        ("sasrec", "din", "by dropout"): None,
        ("hybrid", "dot", "by dropout"): "does not read",
        ("hybrid", "dot", "of layers"): None,
        ("sasrec on content", "din", "feature_mask"): None,
        ("sasrec on content", "dot", "edge_drop"): "does not read",
        ("attentive", "din", "by target"): None,
        ("sasrec at every step", "dot", "by dropout"): None,
        ("sasrec at every step", "dot", "by target"): "want 'last', got 'every'",
        ("bert4rec", "din", "by target"): "want 'last', got 'masked'",
        ("ngcf", "dot", "by target"): "does not read",
    }
    assert {key: reason(*key) for key in refused} == refused


MISFITS: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    (
        {"name": "attentive"},
        {"name": "view_contrast", "against": "all", "view": "feature_mask"},
        "dot",
        "depend on a hist",
    ),
    (
        LIGHTGCN,
        {"name": "layer_contrast", "layer": 2},
        "dot",
        "compares layer 2, and encoder lightgcn has layers 0 to 1",
    ),
    (LIGHTGCN, {"name": "layer_contrast", "layer": 0, "anchor": 3}, "dot", "compares layer 3"),
    (LIGHTGCN, {"name": "direct_au"}, "neumf", r"heads\.rank: neumf has weights, and no objective has `head: rank`"),
    ({"name": "pooling"}, {"name": "direct_au"}, "din", "no objective has `head: rank`"),
    (LIGHTGCN, {"name": "bce", "weight": 0}, "mlp", "no objective has `head: rank`"),
    ({"name": "sasrec"}, {"name": "prototype_contrast"}, "dot", "which depend on a history"),
    ({"name": "sasrec"}, {"name": "view_contrast", "view": "crop"}, "dot", "compares items too, which a view of hist"),
    (
        {"name": "hybrid", "graph": {"name": "ngcf", "dim": 4}},
        {"name": "content_contrast", "layers": "each"},
        "dot",
        "compares layers, of which encoder hybrid shows none",
    ),
]


@pytest.mark.parametrize(("encoder", "objective", "head", "why"), MISFITS)
def test_what_could_not_learn_is_refused(
    encoder: dict[str, Any], objective: dict[str, Any], head: str, why: str, toy: Path
) -> None:
    with pytest.raises(ConfigError, match=why):
        check(
            RunConfig(
                encoder=encoder,
                heads={"rank": head, "other": "dot"},
                objectives={"one": objective, "two": {"name": "bpr", "head": "other"}},
                content={"text": {"columns": ["title"]}},
                split="random_by_user",
                train={"monitor": "ndcg@10"},
                evaluate={"metrics": ["ndcg@10"]},
            ),
            cards.find("toy"),
            "test",
        )


class Mine(LightGCN):
    """Somebody's own, from another repository."""


class Own(Objective):
    """It scores with the head that ranks, and does not say so."""

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        return recommender.score_pairs(encoding, batch.items).mean()


def test_what_is_from_another_repository_is_taken_at_its_word(toy: Path) -> None:
    check(
        RunConfig(
            encoder={"name": "test_pairing:Mine", "dim": 4, "num_layers": 2},
            heads={"rank": "mlp"},
            objectives={"own": "test_pairing:Own", "ssl": {"name": "layer_contrast", "layer": 2}},
            split="random_by_user",
            train={"monitor": "ndcg@10"},
            evaluate={"metrics": ["ndcg@10"]},
        ),
        cards.find("toy"),
        "test",
    )


def test_a_history_is_contrasted_with_itself_where_dropout_makes_two_of_it() -> None:
    for encoder, refused in (({"name": "pooling"}, True), ({"name": "pooling", "dropout": 0.1}, False)):
        found = misfit(
            registry.objectives.check("sequence_contrast", ""), registry.encoders.check(encoder, ""), clicks=False
        )
        assert bool(found) == refused


def test_a_view_of_histories_and_dropout_make_two_of_everything() -> None:
    contrast = registry.objectives.check({"name": "view_contrast", "view": "crop"}, "")
    for encoder, refused in (({"name": "sasrec"}, True), ({"name": "sasrec", "item_dropout": 0.1}, False)):
        assert bool(misfit(contrast, registry.encoders.check(encoder, ""), clicks=False)) == refused
    users = registry.objectives.check({"name": "view_contrast", "view": "crop", "item_weight": 0}, "")
    assert not misfit(users, registry.encoders.check("sasrec", ""), clicks=False)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_view_that_is_accepted_changes_what_the_encoder_makes(encoder: str) -> None:
    """Without dropout, two draws of a view give different vectors, except those that draw nothing."""
    table, graph, content = data()
    spec = registry.encoders.check(spec_of(encoder, "dot"), "encoder")
    with isolated(0, "modules"):
        parts = {"encoder": spec, "heads": {"rank": "dot"}}
        recommender = Recommender.build(
            *(table.num_users, table.num_items), parts, graph, content if "content" in reads_of(spec) else None
        ).eval()
    history = torch.arange(1, 9).repeat(4, 1)
    inputs = replace(recommender.inputs_of(), users=torch.arange(4), history=history)
    for name, kind in registry.views.components().items():
        view = registry.views.build({"name": name, **({"rate": 0.5} if name == "feature_mask" else {})})
        try:
            check_view(registry.views.check(name, "view"), spec, "view", linked=False)
        except ConfigError:
            continue
        generator = torch_generator(0, "views")
        plain, *drawn = (recommender.encoder(each) for each in (inputs, *(view(inputs, generator) for _ in range(6))))
        assert any(not torch.equal(one.query, plain.query) for one in drawn), name
        assert any(not torch.equal(one.query, drawn[0].query) for one in drawn) == kind.draws, name
        if kind.changes != {"history"}:
            assert any(not torch.equal(one.items, plain.items) for one in drawn), name


class Reader(Encoder):
    """It reads histories, and has no `query` to rank with."""

    reads = frozenset({"history"})

    def __init__(self, num_users: int, num_items: int, *, dim: int = 4) -> None:
        super().__init__(num_users, num_items, dim=dim)


def test_noise_wants_an_encoder_that_lets_it_perturb_the_layers() -> None:
    encoder = registry.encoders.check("test_pairing:Reader", "encoder")
    with pytest.raises(
        ConfigError, match=r"view: noise changes \['perturb'\], which test_pairing:Reader does not read"
    ):
        check_view(registry.views.check("noise", "view"), encoder, "view", linked=False)


def test_an_encoder_of_histories_that_cannot_rank_is_refused_at_build() -> None:
    with pytest.raises(ConfigError, match=r"Reader reads histories: derive it from .*SequenceEncoder"):
        Recommender.build(5, 7, {"encoder": "test_pairing:Reader"}, None)


def test_a_model_is_built_from_names_alone() -> None:
    model = Recommender.build(5, 7, {"encoder": "embedding"}, None)
    assert isinstance(model.head("rank"), Dot)
    assert model.options() == {"encoder": "embedding", "heads": {"rank": "dot"}}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"encoder": "embedding", "heads": {"rank": {}}}, r"heads\.rank: expected the name of a head, or .*, got {}"),
        ({"encoder": "content"}, "encoder: encoder 'content' cannot be built: missing a required argument: 'content'"),
        (
            {"encoder": {"name": "sasrec", "items": "content"}},
            r"encoder\.items: encoder 'content' cannot be built: missing a required argument: 'content'",
        ),
    ],
)
def test_what_is_missing_at_build_is_named(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recommender.build(5, 7, spec, None)


def test_a_head_that_an_encoder_cannot_serve_is_refused_at_build_too() -> None:
    spec = {"encoder": {"name": "lightgcn", "dim": 4}, "heads": {"rank": "dot", "ctr": {"name": "din"}}}
    with pytest.raises(
        ConfigError,
        match=r"heads\.ctr: din looks at \['history'\], which LightGCN does not read; these do: .*sasrec",
    ):
        Recommender.build(5, 7, spec, None)


def test_the_past_of_a_step_ends_with_it_and_parts_are_of_the_whole() -> None:
    history = torch.tensor([[0, 0, 3, 5], [7, 2, 9, 4]])
    assert Past(history).rows() is history
    past = Past(history, torch.tensor([2, 3, 4, 7]))
    expected = [[0, 0, 0, 3], [0, 0, 3, 5], [0, 0, 0, 7], [7, 2, 9, 4]]
    assert past.rows().tolist() == expected
    assert past.part(slice(1, 3)).rows().tolist() == expected[1:3]
    assert Past(history).part(slice(1, 2)).rows().tolist() == [[7, 2, 9, 4]]


@pytest.mark.parametrize("targets", ["every", "last"])
def test_din_has_the_same_gradient_in_chunks_of_rows(targets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table, found = random_interactions(), []
    for floats in (2**23, 60):
        monkeypatch.setattr("recgraph.objectives.rows.CHUNK_FLOATS", floats)
        with isolated(0, "modules"):
            spec = {"encoder": {"name": "attentive", "dim": 4}, "heads": {"rank": "din"}}
            recommender = Recommender.build(table.num_users, table.num_items, spec, None).double().eval()
            objectives = Objectives({"rank": (1.0, registry.objectives.build("bce"))})
        generators = torch_generator(0, "order"), torch_generator(0, "negatives")
        batch = next(iter(SequenceBatches(table, 12, *generators, sampler=Uniform(table, num=3), targets=targets)))
        total, _ = objectives(recommender, batch)
        found.append([total, *torch.autograd.grad(total, list(recommender.parameters()))])
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("options", [{}, {"view": "edge_drop", "anchors": "shared"}])
def test_contrast_of_users_is_of_their_last_steps_whatever_the_targets(options: dict[str, Any]) -> None:
    """With a query for each target, the shared encoding's rows are not the users'."""
    table, found = random_interactions(), []
    with isolated(0, "modules"):
        spec = {"encoder": ENCODERS["attentive on lightgcn"], "heads": {"rank": "dot"}}
        recommender = Recommender.build(table.num_users, table.num_items, spec, graph_of(table)).eval()
        objectives = Objectives({"ssl": (1.0, registry.objectives.build({"name": "view_contrast", **options}))})
    (batch,) = SequenceBatches(
        *(table, 12, torch_generator(0, "order"), torch_generator(0, "negatives")), graph=recommender.graph
    )
    for positions in (batch.inputs.positions, None):
        one = replace(
            batch,
            inputs=replace(batch.inputs, positions=positions),
            distinct=Distinct(torch.arange(12), torch.arange(17)),
            generator=torch_generator(0, "views"),
        )
        found.append(objectives(recommender, one)[0])
    torch.testing.assert_close(found[0], found[1])


def test_a_head_may_read_popularity_with_any_encoder() -> None:
    class Popular(Dot):
        reads = frozenset({"popularity"})

    recommender = Recommender(Embedding(12, 17, dim=4), {"rank": Popular(5)})
    recommender.observe(random_interactions())
    encoding = recommender.encode_all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dot, "reads", Popular.reads)
        check_head("dot", frozenset(), "heads.rank", "encoder embedding")  # refuses nothing
    assert recommender.popularity is not None
    wide = torch.cat([encoding.items, recommender.popularity.unsqueeze(1)], 1)
    query = F.pad(encoding.query, (0, 1), value=1.0)
    torch.testing.assert_close(recommender.score(replace(encoding, query=query)), query @ wide.T)
