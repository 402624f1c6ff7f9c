"""Relations from the attributes of a dataset to the links of a graph, and what an experiment file may say of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from cases import interactions
from pydantic import ValidationError

from recgraph.data import datasets
from recgraph.data.features import Attributes, Features
from recgraph.errors import ConfigError, DataError
from recgraph.experiments.relations import RelationSettings, check_relations, links_of
from recgraph.graph.links import Links
from recgraph.types import Content, Modality

# Users 0 to 3 and items 10 to 14; user 3 and item 14 have no training interactions.
TABLE = interactions(np.array([[0, 10], [1, 11], [2, 12], [0, 13], [3, 14]]))
TRAIN = TABLE.select(np.array([True, True, True, True, False]))
FRIENDS = pl.DataFrame({"id": [0, 1, 2, 3], "friends": [[1, 2, 99], [0], [], [3, 2]]})
CITES = pl.DataFrame({"id": [10, 11, 12, 13, 14], "cites": [[11], [], [10], [], [13, 10]]})
FEATURES = Features(Attributes(FRIENDS, {"friends": "multi_hot"}), Attributes(CITES, {"cites": "multi_hot"}))
VECTORS = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [0.95, 0.06]]), dim=1)
CONTENT = Content({"text": Modality(VECTORS, torch.ones(5, dtype=torch.bool))})


def dense(links: Links) -> torch.Tensor:
    matrix = torch.zeros(links.size, links.size)
    matrix[links.rows, links.columns.long()] = links.weights
    return matrix


def of(content: Content | None = None, **settings: dict[str, Any]) -> tuple[Links | None, Links | None]:
    return links_of({name: RelationSettings(**entry) for name, entry in settings.items()}, FEATURES, content, TRAIN)


def test_ids_of_others_are_links_whoever_names_whom() -> None:
    users, items = of(social={"side": "user", "column": "friends", "weight": 0.5})
    expected = torch.zeros(4, 4)
    for one, other in ((0, 1), (0, 2), (2, 3)):  # 99 is nobody, and nobody is a friend of his own
        expected[one, other] = expected[other, one] = 0.5
    assert torch.equal(dense(users), expected)
    assert items is None


def test_neighbours_in_content_have_training_interactions() -> None:
    _, items = of(CONTENT, alike={"content": "text", "neighbours": 1, "weight": 2.0})
    cosines = VECTORS @ VECTORS.T
    expected = torch.zeros(5, 5)
    for one in range(5):
        best = max((other for other in range(4) if other != one), key=lambda other: cosines[one, other].item())
        expected[one, best] = expected[best, one] = 2 * cosines[one, best]
    torch.testing.assert_close(dense(items), expected)
    assert dense(items)[4].any()
    assert (cosines[0, 4] > cosines[0, 1:4]).all()  # item 14 would be the nearest, and is cold


def test_weights_of_several_relations_add_up() -> None:
    _, cited = of(cited={"column": "cites", "weight": 0.25})
    _, alike = of(CONTENT, alike={"content": "text", "neighbours": 2})
    _, both = of(CONTENT, cited={"column": "cites", "weight": 0.25}, alike={"content": "text", "neighbours": 2})
    torch.testing.assert_close(dense(both), dense(cited) + dense(alike))


def test_relations_that_link_nobody_or_hold_no_ids_are_refused() -> None:
    nobody = FEATURES.users.frame.with_columns(friends=pl.Series([[0], [1], [], []]))
    features = Features(Attributes(nobody, FEATURES.users.kinds), FEATURES.items)
    entry = {"social": RelationSettings(side="user", column="friends")}
    with pytest.raises(DataError, match=r"relations.social: no user is linked with another"):
        links_of(entry, features, None, TRAIN)
    nameless = Features(
        Attributes(nobody.with_columns(friends=pl.Series([[]] * 4)), FEATURES.users.kinds), FEATURES.items
    )
    with pytest.raises(DataError, match=r"relations.social: no user is linked with another"):
        links_of(entry, nameless, None, TRAIN)
    words = FEATURES.users.frame.with_columns(friends=pl.Series([["a"], ["b"], [], []]))
    with pytest.raises(DataError, match=r"relations.social: 'friends' holds String, but ids are Int64"):
        links_of(entry, Features(Attributes(words, FEATURES.users.kinds), FEATURES.items), None, TRAIN)
    nothing = Content({"text": Modality(torch.zeros(5, 2), torch.zeros(5, dtype=torch.bool))})
    with pytest.raises(DataError, match=r"relations.alike: no item is linked"):
        of(nothing, alike={"content": "text"})


def test_what_a_dataset_cannot_serve_is_explained() -> None:
    kinds: dict[Any, Any] = {"item": {"cites": "multi_hot", "year": "numeric"}, "user": {}}
    check_relations({"ok": RelationSettings(column="cites"), "alike": RelationSettings(content="text")}, kinds)
    with pytest.raises(ConfigError, match=r"relations.c.column: no feature 'cite' of items .* Did you mean 'cites'\?"):
        check_relations({"c": RelationSettings(column="cite")}, kinds)
    with pytest.raises(ConfigError, match=r"relations.c.column: expected a multi_hot feature of ids, 'year' is num"):
        check_relations({"c": RelationSettings(column="year")}, kinds)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "expected either `column` or `content`"),
        ({"column": "a", "content": "b"}, "expected either `column` or `content`"),
        ({"column": "a", "neighbours": 3}, "`neighbours` are of `content`"),
        ({"column": "a", "weight": 0}, "greater than 0"),
        ({"column": "a", "wieght": 1}, "Extra inputs"),
    ],
)
def test_an_entry_has_one_source_and_a_weight(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RelationSettings(**entry)


def test_real_relations_have_the_links_of_their_files(mirror: Path) -> None:
    last, articles = datasets.load("lastfm"), datasets.load("citeulike-a")
    social = {"social": RelationSettings(side="user", column="friends")}
    users, _ = links_of(social, last.features, None, last.interactions)
    lines = (mirror / "lastfm" / "trustnetwork.txt").read_text().splitlines()
    active = set(last.interactions.users.series)
    friends = {frozenset(map(int, line.split())) for line in lines}
    assert len(users.rows) == 2 * sum(len(pair) == 2 and pair <= active for pair in friends) == 25226
    _, items = links_of({"cited": RelationSettings(column="citations")}, articles.features, None, articles.interactions)
    cited = set()
    for article, line in enumerate((mirror / "citeulike-a" / "citations.dat").read_text().splitlines()):
        cited |= {frozenset((article, other)) for other in map(int, line.split()[1:])}
    assert len(items.rows) == 2 * sum(len(pair) == 2 for pair in cited)
    # What a link joins is what its ids say.
    ids = articles.interactions.items.series
    one, other = int(items.rows[1000]), int(items.columns[1000])
    assert frozenset((ids[one], ids[other])) in cited
