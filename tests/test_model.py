"""Saved models: the same scores after loading, without dataset, configuration or pickled code."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from cases import graph_of, random_content, random_interactions

from recgraph import registry
from recgraph.baselines import Popularity
from recgraph.data.interactions import Interactions
from recgraph.errors import ConfigError, DataError
from recgraph.models.model import Model, catalogue_of
from recgraph.models.recommender import Recommender
from recgraph.random import isolated

TITLES = [f"Film {item}" for item in range(17)]


def with_text_ids() -> Interactions:
    table = random_interactions()
    users = [f"u{user:02d}" for user in table.user_indices]
    return Interactions.from_frame(pl.DataFrame({"user": users, "item": table.item_indices * 10}))


def trained(name: str, table: Interactions, titles: list[str | None] | None = TITLES) -> Model:
    """A model as a run would leave it: an encoder with random tables, or a fitted baseline."""
    if name in registry.baselines.components():
        narrow = {"dim": 4} if name == "puresvd" else {}  # of full rank, what is not seen scores 0 but for rounding
        model = registry.baselines.build({"name": name, **narrow}, table.num_users, table.num_items)
        model.content = random_content(table.num_users, table.num_items)
        model.fit(table)
    else:
        with isolated(0, "modules"):
            inner = {"graph": {"name": "lightgcn", "dim": 4}} if name == "hybrid" else {"dim": 4}
            inner |= {"wide": False} if name == "fields" else {}
            spec = {"encoder": {"name": name, **inner}, "heads": {"rank": "dot"}}
            reads = "content" in registry.encoders.find(name).reads
            content = random_content(table.num_users, table.num_items, users=True) if reads else None
            model = Recommender.build(table.num_users, table.num_items, spec, graph_of(table), content)
        model.observe(table)
    model.catalogue = catalogue_of(table, [table], titles)
    return model.eval()


MODELS = [*registry.encoders.components(), *registry.baselines.components()]


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_model_scores_and_recommends_as_the_saved_one(name: str, tmp_path: Path) -> None:
    model = trained(name, with_text_ids())
    model.save(tmp_path)
    loaded = Model.load(tmp_path)
    assert type(loaded) is type(model)
    users = torch.arange(model.num_users)
    with torch.no_grad():
        torch.testing.assert_close(loaded.scorer()(users), model.scorer()(users), rtol=0, atol=0)
    ours, theirs = loaded.recommend("u03", 5), model.recommend("u03", 5)
    assert [one[:2] for one in ours] == [one[:2] for one in theirs]
    # A product of one row may round otherwise where the matrix lies elsewhere in memory.
    assert [one.score for one in ours] == pytest.approx([one.score for one in theirs], rel=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_that_is_loaded_is_pickled(name: str, tmp_path: Path) -> None:
    trained(name, with_text_ids()).save(tmp_path)
    for path in tmp_path.iterdir():
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, UnicodeDecodeError, KeyError)):
            pickle.loads(path.read_bytes())
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".parquet", ".safetensors"}


def test_recommendations_are_the_best_unseen_items_with_original_ids_and_titles() -> None:
    table = with_text_ids()
    model = trained("lightgcn", table)
    with torch.no_grad():
        scores = model.scorer()(torch.tensor([3]))[0].numpy().copy()
    scores[table.csr()[3].indices] = -np.inf
    order = np.argsort(-scores)[:4]
    best = model.recommend("u03", 4)
    assert [item.item for item in best] == [10 * int(item) for item in order]
    assert [item.title for item in best] == [f"Film {item}" for item in order]
    assert [item.score for item in best] == pytest.approx(scores[order].tolist())


def test_a_user_who_is_left_few_items_gets_few() -> None:
    table = random_interactions()
    model = trained("popularity", table)
    unseen = 17 - len(np.unique(table.item_indices[table.user_indices == 0]))
    assert len(model.recommend(0, 100)) == unseen


@pytest.mark.parametrize("name", MODELS)
def test_recommending_to_one_user_leaves_the_others_alone(name: str) -> None:
    model, fresh = trained(name, with_text_ids()), trained(name, with_text_ids())
    model.recommend("u03", 20)
    assert model.recommend("u05", 20) == fresh.recommend("u05", 20)


def test_an_item_without_a_title_leaves_the_others_theirs(tmp_path: Path) -> None:
    titles = [None, *TITLES[1:]]
    trained("popularity", with_text_ids(), titles=titles).save(tmp_path)
    assert list(Model.load(tmp_path).catalogue.titles) == titles


def test_k_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="k: expected at least 1, got 0"):
        trained("popularity", with_text_ids()).recommend("u00", 0)


def test_recommendations_are_plain_values() -> None:
    best = trained("lightgcn", with_text_ids()).recommend("u00", 2)
    assert json.loads(json.dumps(best)) == [list(item) for item in best]


def test_loading_draws_nothing_from_global_randomness(tmp_path: Path) -> None:
    trained("lightgcn", with_text_ids()).save(tmp_path)
    state = torch.get_rng_state()
    Model.load(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)


def test_tied_parameters_can_be_saved(tmp_path: Path) -> None:
    model = trained("embedding", with_text_ids())
    model.encoder.extra = torch.nn.Parameter(model.encoder.users.weight.data)
    model.save(tmp_path)
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("damage", ["model.json", "model.safetensors", "items.parquet"])
def test_a_damaged_model_is_an_error(tmp_path: Path, damage: str) -> None:
    trained("lightgcn", with_text_ids()).save(tmp_path)
    (tmp_path / damage).write_bytes((tmp_path / damage).read_bytes()[:30])
    with pytest.raises(DataError, match="the saved model is damaged"):
        Model.load(tmp_path)


def test_a_model_that_cannot_be_saved_leaves_the_saved_one_alone(tmp_path: Path) -> None:
    model = trained("embedding", with_text_ids())
    model.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model.encoder.items.weight.data += 1
    model.spec = None
    with pytest.raises(ConfigError, match="built from no configuration"):
        model.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_model_whose_classes_have_changed_is_an_error(tmp_path: Path) -> None:
    model = trained("lightgcn", with_text_ids())
    model.encoder.extra = torch.nn.Parameter(torch.zeros(3))  # as if the class had had it
    model.save(tmp_path)
    with pytest.raises(DataError, match=r"damaged, or its classes have changed since: .*encoder\.extra"):
        Model.load(tmp_path)


def test_a_model_whose_options_are_gone_is_an_error(tmp_path: Path) -> None:
    trained("item_knn", with_text_ids()).save(tmp_path)
    header = json.loads((tmp_path / "model.json").read_text())
    header["options"]["gone"] = 1
    (tmp_path / "model.json").write_text(json.dumps(header))
    with pytest.raises(DataError, match=r"damaged, or its classes have changed since: .*'gone'"):
        Model.load(tmp_path)


def test_a_device_that_is_not_there_is_no_damage(tmp_path: Path) -> None:
    trained("popularity", with_text_ids()).save(tmp_path)
    with pytest.raises(RuntimeError, match="device type at start of device string: gpu"):
        Model.load(tmp_path, device="gpu")


def test_a_model_whose_module_is_missing_is_not_called_damaged(tmp_path: Path) -> None:
    trained("lightgcn", with_text_ids()).save(tmp_path)
    header = json.loads((tmp_path / "model.json").read_text())
    header["options"]["encoder"] = {**header["options"]["encoder"], "name": "my_lab_of_graphs:Mine"}
    (tmp_path / "model.json").write_text(json.dumps(header))
    with pytest.raises(DataError, match=r"not on Python's path: .*No module named 'my_lab_of_graphs'"):
        Model.load(tmp_path)


def test_a_class_that_cannot_be_trusted_is_not_called(tmp_path: Path) -> None:
    trained("lightgcn", with_text_ids()).save(tmp_path)
    header = json.loads((tmp_path / "model.json").read_text())
    header["options"]["encoder"] = {"name": "builtins:exec"}
    (tmp_path / "model.json").write_text(json.dumps({**header, "num_users": f"open('{tmp_path}/pwned', 'w')"}))
    with pytest.raises(DataError):
        Model.load(tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_datasets_without_titles_have_none(tmp_path: Path) -> None:
    trained("popularity", with_text_ids(), titles=None).save(tmp_path)
    assert Model.load(tmp_path).recommend("u00", 1)[0].title is None


def test_integer_ids_are_found_from_text_as_the_command_line_gives_it(tmp_path: Path) -> None:
    trained("popularity", random_interactions()).save(tmp_path)
    loaded = Model.load(tmp_path)
    assert loaded.recommend("3", 2) == loaded.recommend(3, 2)


def test_an_unknown_user_is_an_error() -> None:
    with pytest.raises(DataError, match="unknown id 'nobody'"):
        trained("popularity", with_text_ids()).recommend("nobody")


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no model\.json here; expected the folder of a finished run"):
        Model.load(tmp_path)


def test_a_baseline_is_not_a_recommender(tmp_path: Path) -> None:
    trained("popularity", with_text_ids()).save(tmp_path)
    with pytest.raises(DataError, match=r"holds a recgraph\.baselines\.popularity:Popularity, expected a Recommender"):
        Recommender.load(tmp_path)


def test_a_class_that_is_no_model_is_refused(tmp_path: Path) -> None:
    trained("popularity", with_text_ids()).save(tmp_path)
    header = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**header, "class": "subprocess:Popen"}))
    with pytest.raises(DataError, match=r"holds a subprocess:Popen, expected a Model"):
        Model.load(tmp_path)


def test_export_writes_the_vectors_behind_the_scores_with_original_ids(tmp_path: Path) -> None:
    model = trained("lightgcn", with_text_ids())
    written = model.export(tmp_path)
    assert sorted(path.name for path in written) == ["items.npy", "items.parquet", "users.npy", "users.parquet"]
    users, items = np.load(tmp_path / "users.npy"), np.load(tmp_path / "items.npy")
    with torch.no_grad():
        np.testing.assert_allclose(users @ items.T, model.scorer()(torch.arange(12)).numpy(), rtol=1e-5, atol=1e-7)
    table = pl.read_parquet(tmp_path / "items.parquet")
    assert table["id"].to_list() == [10 * item for item in range(17)]
    np.testing.assert_array_equal(np.stack(table["vector"].to_list()), items)
    assert pl.read_parquet(tmp_path / "users.parquet")["id"].to_list() == [f"u{user:02d}" for user in range(12)]


def test_popularity_is_the_count_of_training_rows() -> None:
    table = random_interactions()
    model = Popularity(table.num_users, table.num_items)
    model.fit(table)
    expected = [sum(item == other for other in table.item_indices.tolist()) for item in range(table.num_items)]
    assert model.scorer()(torch.tensor([4, 1])).tolist() == [expected, expected]


def test_weights_and_exponents_of_the_graph_are_kept(tmp_path: Path) -> None:
    model = trained("ngcf", with_text_ids())
    weights = torch.rand(model.graph.num_edges, generator=torch.Generator().manual_seed(0))
    model.graph = model.graph.reweighted(weights).normalised(1.0, 0.0)
    model.save(tmp_path)
    loaded, users = Model.load(tmp_path), torch.arange(5)
    assert torch.equal(loaded.graph.weights, weights)
    assert torch.equal(loaded.scorer()(users), model.scorer()(users))
    more = model.add_users(pl.DataFrame({"id": ["new"], "items": [model.catalogue.items.decode([4, 2]).tolist()]}))
    assert more.graph.weights.tolist() == [*weights.tolist(), 1.0, 1.0]
    assert more.graph.exponents == (1.0, 0.0)
    assert more.graph.items[-2:].tolist() == [2, 4]
