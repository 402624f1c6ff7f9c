"""What a run would refuse once it is built is refused when its file is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from recgraph.encoders import Encoder
from recgraph.errors import ConfigError
from recgraph.experiments.experiment import plan

SASREC = {"name": "sasrec", "dim": 10}
FIELDS = {"name": "fields", "dim": 4}


WORDS = {"words": {"file": "vectors.parquet"}}
PEOPLE = {"side": "user", "columns": ["age"]}
SVD = {"name": "view_contrast", "view": "svd"}


class Broken(Encoder):
    """An encoder of a user, with a mistake in it."""

    def __init__(self, num_users: int, num_items: int, *, dim: int = 4) -> None:
        super().__init__(num_users, num_items, dim={}["dim"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": SASREC | {"num_heads": 3}}, r"encoder\.num_heads: 3 heads do not divide a dim of 10"),
        ({"encoder": SASREC | {"frequency": 0.5}}, r"encoder\.frequency: the filter wants norm 'post'"),
        ({"encoder": SASREC | {"items": "lightgcn"}}, r"encoder\.items: expected an encoder of dim 10"),
        ({"encoder": {"name": "lightgcn", "first_layer": 9}}, "encoder: first_layer is 9"),
        ({"encoder": SASREC, "sequences.targets": "masked"}, r"sequences\.targets: SASRec .* learns from \['every'"),
        ({"encoder": {"name": "bert4rec"}}, r"sequences\.targets: BERT4Rec .* learns from \['masked'\], got 'every'"),
        (
            {"encoder": SASREC, "objectives.ssl": "same_target_contrast"},
            r"sequences\.targets: histories before the same item want 'last', got 'every'",
        ),
        ({"heads.rank": {"name": "neumf", "gmf_dim": 8}}, r"heads\.rank: head neumf: gmf_dim is 8"),
        (
            {"heads.extra": "mlp"},
            r"heads\.extra: mlp has weights, and no objective has `head: extra` and trains them; take it out",
        ),
        ({"heads.extra": "cosine"}, r"heads\.extra does nothing here: no objective has `head: extra`; take it out"),
        (
            {"encoder": "test_rehearsing:Broken"},
            r"encoder: test_rehearsing:Broken cannot be built: KeyError: 'dim' \(.*:",
        ),
        (
            {"encoder.num_layers": 0, "objectives.ssl": {"name": "view_contrast", "view": "edge_drop"}},
            r"objectives\.ssl\.view: edge_drop changes layers from 1 on, and lightgcn has none: num_layers is 0",
        ),
        (
            {
                "encoder": SASREC | {"items": {"name": "lightgcn", "dim": 10, "num_layers": 0}},
                "objectives.ssl": {"name": "view_contrast", "view": "edge_drop", "every": "epoch"},
            },
            r"objectives\.ssl\.view: edge_drop changes layers from 1 on, and sasrec has none: num_layers is 0",
        ),
        (
            {
                "encoder": {"name": "hybrid", "graph": {"name": "embedding", "dim": 8}},
                "objectives.ssl": {"name": "view_contrast", "view": "edge_drop"},
            },
            r"objectives\.ssl\.view: edge_drop changes edges, and nothing in hybrid propagates over any",
        ),
        (
            {
                "encoder": {"name": "hybrid", "graph": {"name": "lightgcn", "num_layers": 0}},
                "objectives.ssl": {"name": "view_contrast", "view": "node_drop"},
            },
            r"objectives\.ssl\.view: node_drop changes layers from 1 on, and hybrid has none: num_layers is 0",
        ),
        (
            {"encoder.alpha": 0.6, "objectives.ssl": {"name": "view_contrast", "view": "svd"}},
            r"objectives\.ssl\.view: svd approximates Â with alpha and beta 0\.5; lightgcn has \(0\.6, 0\.5\)",
        ),
        (
            {
                "objectives.one": {"name": "layer_contrast", "view": "svd"},
                "objectives.two": {"name": "layer_contrast", "view": "edge_drop"},
            },
            r"objectives\.two\.view: edge_drop cannot change the graph that all .*, after objectives\.one\.view has",
        ),
        (
            {"objectives.ssl": "prototype_contrast", "train.max_epochs": 20},
            r"objectives\.ssl\.warm_up: 20 epochs without it, and train\.max_epochs is 20: it would do nothing",
        ),
        (
            {"objectives.ssl": {"name": "layer_contrast", "user_weight": 0, "item_weight": 0}},
            r"objectives\.ssl: user_weight and item_weight are 0: nothing would be contrasted",
        ),
        (
            {"objectives.ssl": {"name": "view_contrast", "anchors": "shared"}},
            r"objectives\.ssl: view_contrast: without a view all vectors are shared: take `anchors` out",
        ),
        (
            {"objectives.ssl": {"name": "view_contrast", "temperature": 0.2, "bound": 5}},
            r"objectives\.ssl: view_contrast: bound is 5\.0; expected below 1 / τ = 5 for cosines",
        ),
        (
            {"objectives.ssl": "view_contrast", "objectives.ssl.view.rate": 0.2},
            r"objectives\.ssl\.view\.rate: no 'view' here\. Known: name\. Of an option that is not set yet, set the whole",
        ),
        ({"evaluate.metrics": "ndcg@10"}, r"evaluate\.metrics: Input should be a list, got 'ndcg@10'"),
        ({"split.ratios": [0.8, 0.2, 0]}, r"split\.ratios\.2: Input should be greater than 0, got 0"),
        (
            {"objectives": {"rank": "bpr", "l2": None}},
            r"objectives\.l2: expected a name, or a mapping with a `name`, got",
        ),
        ({"encoder": ["lightgcn"]}, r"encoder: expected a name, or a mapping with a `name`, got \['lightgcn'\]"),
        ({"encoder": FIELDS}, r"heads\.rank: Dot takes vectors as they are"),
        ({"encoder": FIELDS, "heads.rank": "dcn"}, r"heads\.rank: head dcn has no linear part"),
        (
            {"encoder": FIELDS | {"crosses": [["user", "kid"]]}, "heads.rank": "linear"},
            r"encoder\.crosses: no field 'kid' that has ids\. Did you mean 'kind'\?",
        ),
        (
            {"encoder": FIELDS | {"crosses": [["user", "words"]]}, "heads.rank": "linear"},
            r"encoder\.crosses: no field 'words' that has ids",
        ),
        (
            {"encoder": FIELDS | {"crosses": [["user", "kind"], ["kind", "user"]]}, "heads.rank": "linear"},
            r"encoder\.crosses: expected pairs of two fields, each once",
        ),
        (
            {"encoder": FIELDS | {"crosses": [["user", "user"]]}, "heads.rank": "linear"},
            r"encoder\.crosses: expected pairs of two fields",
        ),
        ({"encoder": FIELDS, "heads.rank": "fm", "content.hour": {"columns": ["k"]}}, "has a field 'hour' of its own"),
        ({"encoder": FIELDS, "heads.rank": "fm", "content.a b": {"columns": ["k"]}}, "'a b' cannot name a modality"),
        ({"encoder": FIELDS, "heads.rank": "fm", "content.keys": {"columns": ["k"]}}, "'keys' cannot name a modality"),
        ({"encoder": FIELDS, "heads.rank": "fm", "content.wide": {"columns": ["k"]}}, "'wide' cannot name a modality"),
        *(
            (
                {"encoder": {"name": "content"}, "objectives.rank": name},
                rf"objectives\.rank: {name} compares collaborative with content vectors, and encoder content lacks one",
            )
            for name in ("clcrec", "content_contrast", "content_distance", "aldi", "gar")
        ),
        (
            {"encoder": FIELDS, "heads.rank": "linear", "sharing": "mmoe"},
            "sharing: an expert takes vectors as they are, and this encoder gives weights beside them: set its `wide`",
        ),
        (
            {"encoder": {"name": "pooling", "dim": 14, "items": FIELDS | {"crosses": [["user", "item"]]}}},
            r"encoder\.items: Pooling takes vectors as they are, and this encoder gives weights",
        ),
        (
            {"encoder": {"name": "hybrid", "graph": FIELDS | {"crosses": [["user", "item"]]}}},
            r"encoder\.graph: Hybrid takes vectors as they are, and this encoder gives weights",
        ),
        *(
            (
                {"encoder": {"name": "hybrid", "graph": "lightgcn"}, "negatives": "warm", "content": WORDS, **more},
                r"encoder: hybrid would not learn from content: with dropout 0 and shrinkage 0",
            )
            for more in (
                {},
                {"objectives.align": {"name": "clcrec", "weight": 0}},
                {"objectives.align": "clcrec", "content": WORDS | {"people": PEOPLE}},
            )
        ),
        (
            {"encoder": SASREC | {"items": {"name": "content", "dim": 10}}, "content.people": PEOPLE},
            r"content\.people: of users, whom sasrec knows by their histories alone: set encoder\.user to sum or gate",
        ),
        ({"train.wide": {"optimizer": "ftrl"}}, r"train\.wide: the model has no linear part"),
        ({"train.wide": {"optimizer": "adagrad", "l1": 0.1}}, r"train\.wide: l1 is of ftrl: it does nothing with"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_is_loaded(
    toy: Path, changes: dict[str, Any], message: str
) -> None:
    tree = yaml.safe_load(toy.read_text())
    kind = {"columns": ["kind"], "ids": True}
    tree["base"] |= {"objectives": {"rank": "bce"}, "content": {"kind": kind, "words": {"columns": ["title"]}}}
    toy.write_text(yaml.safe_dump(tree))
    state = torch.random.get_rng_state()
    with pytest.raises(ConfigError, match=rf"{toy.name}: rows\.LightGCN: .*({message})"):
        plan(toy, rows=["LightGCN"], overrides=changes)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "objectives.ssl": SVD | {"anchors": "shared"},
            "objectives.noisy": {"name": "layer_contrast", "view": "noise"},
        },
        {"objectives.ssl": {"name": "layer_contrast", "view": "edge_drop"}, "objectives.more": "layer_contrast"},
        {
            "objectives.ssl": {"name": "layer_contrast", "view": "edge_drop"},
            "objectives.more": {"name": "layer_contrast", "view": "random_walk"},
        },
        {"objectives.ssl": {"name": "view_contrast", "temperature": 0.1, "bound": 9.9}},
        {"objectives.ssl": {"name": "view_contrast", "temperature": 0.2, "bound": 5, "similarity": "dot"}},
        {"objectives.ssl": "prototype_contrast", "train.max_epochs": 21},
        *(
            {
                "encoder": {"name": "hybrid", "graph": "lightgcn", **how},
                "content": WORDS,
                **more,
            }
            for how, more in (
                ({"dropout": 0.5}, {}),
                ({"shrinkage": 1.0}, {}),
                ({}, {"objectives.align": "clcrec", "negatives": "warm"}),
            )
        ),
    ],
)
def test_what_fits_together_is_not_refused(toy: Path, changes: dict[str, Any]) -> None:
    tree = yaml.safe_load(toy.read_text())
    tree["base"]["objectives"] = {"rank": "bpr", "ssl": {"name": "view_contrast"}}
    toy.write_text(yaml.safe_dump(tree))
    plan(toy, rows=["LightGCN"], overrides=changes)


def test_what_a_file_says_of_its_own_rows_is_not_followed_by_all_of_it(toy: Path) -> None:
    toy.write_text(toy.read_text() + "against: LightGNC\n")
    with pytest.raises(ConfigError) as caught:
        plan(toy)
    assert str(caught.value) == f"{toy}: against: no row 'LightGNC'. Did you mean 'LightGCN'?"
