"""What a model keeps when its catalogue grows: links, weights of edges, histories, and what is not recommended again."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from cases import graph_of, random_content, random_interactions

from recgraph.data.interactions import Vocabulary
from recgraph.data.modalities import ModalitySettings, fit_modality
from recgraph.encoders import Embedding
from recgraph.errors import ConfigError
from recgraph.graph import Links
from recgraph.heads import Cosine
from recgraph.models.model import Catalogue
from recgraph.models.recommender import Recommender
from recgraph.random import isolated
from recgraph.types import Content

LIGHTGCN = {"name": "lightgcn", "dim": 4, "num_layers": 1}
NEW = pl.DataFrame({"id": ["new"], "year": [1999.0]})


def years():
    """The content of 17 items, and the pipeline that makes it."""
    frame, known = pl.DataFrame({"year": np.arange(1990.0, 2007.0)}), np.ones(17, dtype=bool)
    fitted = fit_modality(ModalitySettings(columns=("year",)), frame, {"year": "numeric"}, known, "content")
    return Content({"year": fitted.transform(frame, "content")}), {"year": fitted}


def model_with(user_links=None, item_links=None, weights=None, encoder=LIGHTGCN, content=(None, None)):
    table = random_interactions()
    graph = graph_of(table).linked(user_links, item_links)
    if weights is not None:
        graph = graph.reweighted(weights(graph.num_edges))
    spec = {"encoder": encoder, "heads": {"rank": "dot"}}
    with isolated(0, "modules"):
        model = Recommender.build(table.num_users, table.num_items, spec, graph, *content).eval()
    model.observe(table)
    model.catalogue = Catalogue(
        Vocabulary([f"u{n}" for n in range(table.num_users)]),
        Vocabulary([f"i{n}" for n in range(table.num_items)]),
        None,
        torch.from_numpy(table.user_indices),
        torch.from_numpy(table.item_indices),
    )
    return model


def test_links_stay_when_users_are_added() -> None:
    links = [Links.of(torch.tensor([0, 1]), torch.tensor([2, 5]), torch.tensor([1.0, 2.0]), size) for size in (12, 17)]
    model = model_with(*links)
    more = model.add_users(pl.DataFrame({"id": ["new"], "items": [["i3", "i4"]]}))
    assert torch.equal(more.graph.item_links.degrees, links[1].degrees)
    assert torch.equal(more.graph.user_links.degrees, torch.nn.functional.pad(links[0].degrees, (0, 1)))


def test_what_was_built_from_no_configuration_does_not_grow() -> None:
    model = model_with()
    model.spec = None
    with pytest.raises(ConfigError, match=r"built from no configuration: make it by `Recommender\.build`"):
        model.add_users(pl.DataFrame({"id": ["new"], "items": [["i3", "i4"]]}))


def test_weights_of_edges_stay_when_users_are_added() -> None:
    model = model_with(weights=lambda n: torch.linspace(0.5, 2.0, n))
    more = model.add_users(pl.DataFrame({"id": ["new"], "items": [["i3", "i4"]]}))
    torch.testing.assert_close(more.graph.weights, torch.cat([model.graph.weights, torch.ones(2)]))


def test_what_newcomers_had_is_seen() -> None:
    more = model_with().add_users(pl.DataFrame({"id": ["new"], "items": [["i3", "i4"]]}))
    assert not {"i3", "i4"} & {one.item for one in more.recommend("new", 17)}


@pytest.mark.parametrize("shape", [(3,), (12, 2)])
def test_popularity_is_of_the_items_that_are_scored(shape) -> None:
    table = random_interactions()
    model = Recommender(Embedding(12, 17, dim=4), {"rank": Cosine(4, popularity=0.5)})
    model.observe(table)
    encoding = model.encode_all()
    items = torch.tensor([9, 2, 5]) if shape == (3,) else torch.randint(17, shape)
    every = model.score(encoding)
    torch.testing.assert_close(
        model.score(encoding, items), every[:, items] if len(shape) == 1 else every.gather(1, items)
    )


def test_links_of_both_sides_stay_when_items_are_added() -> None:
    links = [Links.of(torch.tensor([0, 1]), torch.tensor([2, 5]), torch.tensor([1.0, 2.0]), size) for size in (12, 17)]
    model = model_with(*links, encoder={"name": "hybrid", "graph": LIGHTGCN}, content=years())
    more = model.add_items(NEW)
    assert torch.equal(more.graph.user_links.degrees, links[0].degrees)
    assert torch.equal(more.graph.item_links.degrees, torch.nn.functional.pad(links[1].degrees, (0, 1)))


def test_histories_stay_when_items_are_added() -> None:
    encoder = {"name": "sasrec", "dim": 4, "max_length": 5, "items": {"name": "content", "dim": 4}}
    model = model_with(encoder=encoder, content=years())
    before = {one.item: one.score for one in model.recommend("u3", 17)}
    after = {one.item: one.score for one in model.add_items(NEW).recommend("u3", 18)}
    assert after.pop("new") is not None
    assert after == pytest.approx(before)


@pytest.mark.parametrize(
    ("encoder", "content", "message"),
    [
        ({"name": "content", "dim": 4}, Content({}, random_content(12, 17, users=True).users), "ContentEncoder reads"),
        ({"name": "sasrec", "dim": 4}, years()[0], "SASRec reads"),
    ],
)
def test_items_of_which_nothing_is_read_are_not_added(encoder, content, message) -> None:
    """A vector of zeros would score 0, above all items with negative scores."""
    model = model_with(encoder=encoder, content=(content, {}))
    with pytest.raises(ConfigError, match=f"{message} no content of items: it cannot tell new ones apart"):
        model.add_items(NEW)


def test_a_missing_pipeline_is_not_called_missing_content() -> None:
    model = model_with(encoder={"name": "content", "dim": 4}, content=(years()[0], None))
    with pytest.raises(ConfigError, match="new items: no pipeline makes their content: give the model a `pipeline`"):
        model.add_items(NEW)
