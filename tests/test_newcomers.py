"""Users who came after training: by a few items, by attributes, in the library and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from test_coldstart import done, films, nothing_leaks  # noqa: F401  # fixtures

from recgraph import cli
from recgraph.data.histories import Histories
from recgraph.data.interactions import Vocabulary
from recgraph.errors import ConfigError, DataError
from recgraph.models.newcomers import continued, free_id, had, with_rows
from recgraph.models.recommender import Recommender

SHORT = {"train.max_epochs": 10, "train.patience": 10}


def fans_of(kind: int, count: int = 4) -> list[int]:
    """Some films of one kind: film k is 100 + k, of kind k mod 4."""
    return [100 + kind + 4 * number for number in range(count)]


def warm(model: Recommender, items: list[int]) -> list[int]:
    degrees = model.graph.item_degrees
    return [item for item in items if degrees[model.catalogue.items.encode([item])[0]] > 0]


@pytest.mark.parametrize("row", ["hybrid", "lightgcn"])
def test_a_few_items_tell_what_somebody_new_likes(films: Path, row: str) -> None:  # noqa: F811
    graph = {"encoder": {"name": "lightgcn", "dim": 8, "num_layers": 2}}
    folder, _ = done(films, "hybrid", **SHORT, **(graph if row == "lightgcn" else {}))
    model = Recommender.load(folder)
    frame = pl.DataFrame({"id": [f"new{kind}" for kind in range(4)], "items": [fans_of(kind) for kind in range(4)]})
    more = model.add_users(frame)
    assert (model.num_users, more.num_users) == (60, 64)
    for kind in range(4):
        best = [one.item for one in more.recommend(f"new{kind}", 6)]
        assert not set(best) & set(fans_of(kind))  # what they have had is not recommended
        assert sum((item - 100) % 4 == kind for item in best) >= 4  # by chance 1.5
    assert len(more.recommend("u0", 5)) == 5
    more.save(films.parent / "more")
    again = Recommender.load(films.parent / "more")
    assert again.recommend("new1", 5) == more.recommend("new1", 5)


def test_a_newcomer_with_somebodys_items_is_recommended_what_they_are(films: Path) -> None:  # noqa: F811
    """Without a vector of one's own the two differ, but by layers that both have most of the list is one."""
    folder, _ = done(films, "hybrid", **SHORT)
    model = Recommender.load(folder)
    seen = model.catalogue.seen_items[model.catalogue.seen_users == model.catalogue.users.encode(["u3"])[0]]
    ids = [model.catalogue.items.decode([int(item)]).tolist()[0] for item in seen]
    more = model.add_users(pl.DataFrame({"id": ["twin"], "items": [ids]}))
    mine, theirs = ({one.item for one in more.recommend(user, 10)} for user in ("twin", "u3"))
    assert len(mine & theirs) >= 6


def test_it_equals_the_propagation_by_hand(films: Path) -> None:  # noqa: F811
    spec = {"name": "lightgcn", "dim": 8, "num_layers": 1, "std": 0.3}
    folder, _ = done(films, "hybrid", encoder=spec, **SHORT)
    model = Recommender.load(folder)
    liked = warm(model, fans_of(2))
    cold = [item for item in range(100, 160) if item not in warm(model, [item])][:1]
    more = model.add_users(pl.DataFrame({"id": ["new"], "items": [liked + cold]}))
    with torch.no_grad():
        query = more.encode_all().query[60]
    places = model.catalogue.items.encode(liked)
    expected = sum(
        model.encoder.items.weight[place] / np.sqrt(len(liked) * (int(model.graph.item_degrees[place]) + 1))
        for place in places
    )
    torch.testing.assert_close(query, expected.detach() / 2)
    assert cold[0] not in [one.item for one in more.recommend("new", 60)]  # masked, though it joins nobody


def test_sequence_encoders_read_what_newcomers_had(films: Path) -> None:  # noqa: F811
    changes: dict[str, Any] = {
        "encoder": {"name": "sasrec", "dim": 8, "max_length": 10},
        "objectives": {"rank": "cross_entropy"},
        "split": {"name": "leave_last_out", "order": "file"},
        "evaluate": {"metrics": ["ndcg@5"]},
        "train.monitor": "ndcg@5",
    }
    folder, _ = done(films, "hybrid", **changes, **SHORT)
    model = Recommender.load(folder)
    more = model.add_users(pl.DataFrame({"id": ["new"], "items": ["101|105|109"]}))
    assert more.histories.last(torch.tensor([60]), 10).tolist() == [
        (more.catalogue.items.encode([101, 105, 109]) + 1).tolist()
    ]
    assert len(more.recommend("new", 5)) == 5
    assert torch.equal(more.histories.starts[:61], model.histories.starts)
    with pytest.raises(
        ConfigError, match="nothing tells SASRec who 'nobody' is"
    ):  # though it has a query for no history
        model.add_users(pl.DataFrame({"id": ["new", "nobody"], "items": ["101", ""]}))


def with_ages(films: Path) -> None:  # noqa: F811
    """Users of one taste are of one trade."""
    import yaml

    data = films.parent / "data"
    trades = ["pilot", "nurse", "guard", "singer"]
    lines = [f"u{user}\t{trades[user % 4]}" for user in range(60)]
    (data / "raw" / "films" / "users.tsv").write_text("user\ttrade\n" + "\n".join(lines) + "\n")
    card = yaml.safe_load((data / "films.yaml").read_text())
    form = card["forms"]["files"]
    form["files"]["users.tsv"] = {}
    form["features"].append(
        {
            "file": "users.tsv",
            "read": {"format": "tsv", "columns": {"user": "str", "trade": "str"}},
            "features": {"trade": {"kind": "categorical"}},
        }
    )
    card["splits"] = {"warm_and_cold": {}, "user_cold": {}}
    (data / "films.yaml").write_text(yaml.safe_dump(card))


COLD_USERS: dict[str, Any] = {
    "split": {"name": "user_cold", "validation": 0.15, "test": 0.15},
    "content": {"who": {"side": "user", "columns": ["trade"]}, "tags": {"columns": ["genres"]}},
    "evaluate": {"metrics": ["ndcg@5"]},
    "train.monitor": "ndcg@5",
    "encoder.dropout": 0.5,
}


def test_cold_users_are_known_by_their_attributes(films: Path) -> None:  # noqa: F811
    with_ages(films)
    folder, result = done(films, "hybrid", **COLD_USERS)
    popular = {key: COLD_USERS[key] for key in ("split", "evaluate")}
    _, by_popularity = done(films, "popularity", **popular)
    assert result["test"]["ndcg@5"] > by_popularity["test"]["ndcg@5"] + 0.2
    model = Recommender.load(folder)
    more = model.add_users(pl.DataFrame({"id": ["a", "b"], "trade": ["nurse", "guard"]}))
    for user, kind in (("a", 1), ("b", 2)):
        assert sum((one.item - 100) % 4 == kind for one in more.recommend(user, 8)) >= 6  # by chance 2
    nobody = pl.DataFrame({"id": ["c"], "trade": ["astronaut"]})  # a trade that nobody has: taken for average
    assert len(model.add_users(nobody).recommend("c", 3)) == 3
    with pytest.raises(ConfigError, match="new users: who: no column 'trade'"):
        model.add_users(pl.DataFrame({"id": ["a"], "items": [[101]]}))
    model.pipeline = None  # as in a model that was put together by hand
    with pytest.raises(ConfigError, match="no pipeline"):
        model.add_users(pl.DataFrame({"id": ["a"], "trade": ["nurse"]}))


def test_interactions_of_cold_users_leak_into_nothing(films: Path, tmp_path: Path) -> None:  # noqa: F811
    with_ages(films)
    alike = {"relations": {"alike": {"side": "user", "content": "who", "neighbours": 3}}, "encoder.shrinkage": 2.0}
    # Some trades are so rare that whether their holders are cold decides whether they are terms.
    table = films.parent / "data" / "raw" / "films" / "users.tsv"
    lines = table.read_text().splitlines()
    for number in range(1, len(lines), 6):
        lines[number] = lines[number].split("\t")[0] + f"\trare{number // 12}"
    table.write_text("\n".join(lines) + "\n")
    split = {"name": "warm_and_cold", "side": "user", "cold": 0.4}
    parts, model = nothing_leaks(films, "hybrid", tmp_path, side="user", **COLD_USERS | alike | {"split": split})
    trades = dict(line.split("\t") for line in lines[1:])
    warm = [trades[user] for user in parts.train.users.decode(np.unique(parts.train.user_indices))]
    assert set(model.pipeline["who"].terms) == {f"trade={trade}" for trade in warm if warm.count(trade) >= 2}
    assert len({trade for trade in trades.values() if list(trades.values()).count(trade) >= 2}) > len(
        model.pipeline["who"].terms
    )  # else it was not put to the test


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"id": ["u0"], "items": [[101]]}, "new users: 1 ids are in the catalogue already, such as 'u0'"),
        ({"id": ["a", "a"], "items": [[101], [102]]}, "new users: the id 'a' is repeated"),
        ({"id": ["a", "b"], "items": [[101], [102, 999]]}, "new users: row 2: items: unknown id 999"),
        ({"id": ["a"], "items": [""]}, "nothing tells Hybrid who 'a' is: give `items`"),
        ({"id": ["a"]}, "nothing tells Hybrid who 'a' is: give `items`"),
        ({"name": ["a"]}, "new users: expected a column `id`"),
        ({"id": [1.5], "items": [[101]]}, "ids must be integers or text"),
    ],
)
def test_newcomers_that_do_not_fit_are_refused(films: Path, frame: dict[str, Any], message: str) -> None:  # noqa: F811
    folder, _ = done(films, "hybrid", **{"train.max_epochs": 2, "train.patience": 2, "train.validate_every": 2})
    with pytest.raises((ConfigError, DataError), match=message):
        Recommender.load(folder).add_users(pl.DataFrame(frame))


def test_a_factorisation_has_nothing_to_fold_in(films: Path) -> None:  # noqa: F811
    short = {"train.max_epochs": 2, "train.patience": 2, "train.validate_every": 2}
    folder, _ = done(films, "hybrid", encoder={"name": "embedding", "dim": 8}, **short)
    with pytest.raises(
        ConfigError, match="nothing tells Embedding who 'a' is: `items` have no place in Embedding, which"
    ):
        Recommender.load(folder).add_users(pl.DataFrame({"id": ["a"], "items": [[101]]}))
    with pytest.raises(ConfigError, match="nothing tells Embedding who 'a' is: give `items` to a graph or sequence"):
        Recommender.load(folder).add_users(pl.DataFrame({"id": ["a"]}))


def test_a_refusal_names_the_part_that_has_no_place_for_items(films: Path) -> None:  # noqa: F811
    short = {"train.max_epochs": 2, "train.patience": 2, "train.validate_every": 2}
    folder, _ = done(films, "hybrid", **{"encoder.graph": {"name": "embedding", "dim": 8}}, **short)
    with pytest.raises(
        ConfigError, match=r"nothing tells Hybrid who 'a' is: `items` have no place in Embedding, .* such as"
    ):
        Recommender.load(folder).add_users(pl.DataFrame({"id": ["a"], "items": [fans_of(1)]}))
    folder, _ = done(films, "hybrid", **short)
    model = Recommender.load(folder)
    cold = [item for item in range(100, 160) if not warm(model, [item])][:2]
    with pytest.raises(ConfigError, match="who 'a' is: nobody had these `items` in training"):
        model.add_users(pl.DataFrame({"id": ["a"], "items": [cold]}))


def test_recommend_takes_likes_and_new_users(films: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    folder, _ = done(films, "hybrid", **SHORT)

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            cli.main(["recommend", str(folder), *arguments])
        out, err = capsys.readouterr()
        return out + err

    likes = ",".join(map(str, fans_of(1)))
    pl.DataFrame({"id": ["new"], "items": [likes.replace(",", "|")]}).write_csv("users.csv")
    one, other = run("--likes", likes, "-k", "5"), run("--user", "new", "--users", "users.csv", "-k", "5")
    assert one == other
    assert "Film" in one
    assert "give either --user, the id of one, or --likes" in run("-k", "5")
    assert "give either" in run("--user", "u0", "--likes", "101")


def test_helpers() -> None:
    assert free_id(Vocabulary([3, 7])) == 8
    assert free_id(Vocabulary(["a", "bb"])) not in ("a", "bb")
    rows, items = had(pl.DataFrame({"id": [1], "items": ["7 | 07|3"]}), Vocabulary([3, 7]), "x")
    assert (rows.tolist(), items.tolist()) == ([0, 0], [1, 0])
    rows, items = had(pl.DataFrame({"id": [1, 2], "items": ["7|3|7", None]}), Vocabulary([3, 7]), "x")
    assert (rows.tolist(), items.tolist()) == ([0, 0], [1, 0])
    rows, items = had(
        pl.DataFrame({"id": [1], "items": pl.Series([[7, 3]], dtype=pl.Array(pl.Int64, 2))}), Vocabulary([3, 7]), "x"
    )
    assert (rows.tolist(), items.tolist()) == ([0, 0], [1, 0])
    longer = continued(
        Histories(torch.tensor([1, 2]), torch.tensor([0, 2])), torch.tensor([2, 0, 2]), torch.tensor([4, 5, 6]), 3
    )
    assert [longer.last(torch.tensor([user]), 9).tolist() for user in range(4)] == [[[1, 2]], [[6]], [[0]], [[5, 7]]]
    larger = {"a": torch.zeros(4, 3), "b": torch.zeros(1)}
    made = with_rows({"a": torch.ones(2, 3), "b": torch.ones(1)}, larger, (2, 5))
    assert made["a"].sum(1).tolist() == [3, 3, 0, 0]
    assert made["b"].tolist() == [1]
    with pytest.raises(ConfigError, match="both has 7 rows, of 2 users and 5 items: expected"):
        with_rows({"both": torch.ones(7, 3)}, {"both": torch.ones(9, 3)}, (2, 5))
