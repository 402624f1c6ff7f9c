"""Neighbourhood models against dense loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import interactions, random_interactions
from references_baselines import item_knn, keep_largest, rp3beta, similarities, user_knn

from recgraph import registry
from recgraph.baselines import neighbours as module
from recgraph.baselines.linear import binary
from recgraph.baselines.neighbours import ItemKNN, RP3Beta, UserKNN, cosine, nearest
from recgraph.data.interactions import Interactions
from recgraph.errors import ConfigError


def train() -> Interactions:
    return random_interactions(40, 50, density=0.2)


def matrix() -> np.ndarray:
    return train().csr().toarray().astype(float)


@pytest.fixture(params=[1, 170, 2**22], ids=lambda chunk: f"chunk{chunk}")
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "CHUNK", request.param)
    return request.param


@pytest.mark.parametrize("of", ["history", "candidate"])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("shrinkage", [0.0, 7.5])
@pytest.mark.parametrize("count", [1, 3, 1000])
@pytest.mark.usefixtures("chunk")
def test_item_knn_is_the_dense_one(count: int, shrinkage: float, normalise: bool, of: str) -> None:
    model = ItemKNN(40, 50, neighbours=count, shrinkage=shrinkage, normalise=normalise, nearest_of=of)
    model.fit(train())
    expected = item_knn(matrix(), count, shrinkage, normalise, of)
    np.testing.assert_allclose(model.weights.csr(50).to_dense().numpy(), expected, rtol=1e-5)
    users = torch.tensor([7, 0, 39])
    np.testing.assert_allclose(model.scorer()(users).numpy(), (matrix() @ expected)[users], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("of", ["user", "neighbour"])
@pytest.mark.parametrize("shrinkage", [0.0, 7.5])
@pytest.mark.parametrize("count", [1, 3, 1000])
@pytest.mark.usefixtures("chunk")
def test_user_knn_is_the_dense_one(count: int, shrinkage: float, of: str) -> None:
    model = UserKNN(40, 50, neighbours=count, shrinkage=shrinkage, nearest_of=of)
    model.fit(train())
    users = torch.tensor([7, 0, 39])
    expected = user_knn(matrix(), count, shrinkage, of)[users]
    np.testing.assert_allclose(model.scorer()(users).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("of", ["user", "neighbour"])
def test_a_neighbour_of_user_knn_speaks_by_the_items_in_common(of: str) -> None:
    model, liked = UserKNN(40, 50, neighbours=5, nearest_of=of), matrix()
    model.fit(train())
    near = keep_largest(similarities(liked, 0.0), 5)
    near = near if of == "user" else near.T
    for user, item in ((0, 3), (7, 20), (39, 49)):
        history = np.flatnonzero(liked[user])
        expected = [
            sum(
                near[user, other] * liked[other, item] * liked[other, mine] / (liked[user] @ liked[other])
                for other in np.flatnonzero(near[user])
            )
            for mine in history
        ]
        np.testing.assert_allclose(model.contributions(user, item).numpy(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.6, 0.4), (0.0, 1.3)])
@pytest.mark.parametrize("count", [4, 1000])
def test_rp3beta_counts_walks(count: int, alpha: float, beta: float, normalise: bool) -> None:
    model = RP3Beta(40, 50, neighbours=count, alpha=alpha, beta=beta, normalise=normalise)
    model.fit(train())
    expected = rp3beta(matrix(), count, alpha, beta, normalise)
    np.testing.assert_allclose(model.weights.csr(50).to_dense().numpy(), expected, rtol=1e-5)


def test_the_walk_of_rp3beta_with_alpha_1_and_beta_0_is_one_of_probabilities() -> None:
    """A step back to the first item takes the rest: rows of W and what is on the diagonal add up to 1."""
    model = RP3Beta(40, 50, neighbours=1000, alpha=1.0, beta=0.0, normalise=False)
    model.fit(train())
    liked = matrix()
    back = ((liked / liked.sum(1, keepdims=True)).T @ liked).diagonal() / liked.sum(0)
    leaving = model.weights.csr(50).to_dense().sum(1).numpy()
    np.testing.assert_allclose(leaving + back, 1, rtol=1e-5)


def test_of_equally_near_neighbours_the_first_are_kept() -> None:
    # Items 0 to 5 share both users, and item 6 has one of them.
    pairs = np.array([[user, item] for user in (0, 1) for item in range(6)] + [[0, 6]])
    model = ItemKNN(2, 7, neighbours=3)
    model.fit(interactions(pairs))
    kept = [row.nonzero()[:, 0].tolist() for row in model.weights.csr(7).to_dense()]
    assert kept == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2]]


def test_ties_are_cut_as_in_a_sorted_list() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        near = rng.integers(0, 4, (6, 9)).astype(np.float32)
        count = int(rng.integers(1, 12))
        row, column = module.largest(torch.from_numpy(near), count)
        found = np.zeros_like(near)
        found[row, column] = near[row, column]
        np.testing.assert_array_equal(found, keep_largest(near, count))
        assert (np.diff(row * 9 + column) > 0).all()
        assert (near[row, column] > 0).all()


def test_the_same_in_common_is_nearer_among_few_and_shrinkage_turns_that_round() -> None:
    # Item 0 shares its one user with item 1, which has that one only, and two of three with the popular item 2.
    pairs = np.array([[0, 0], [1, 0], [2, 0], [0, 1], [1, 2], [2, 2], [3, 2], [4, 2], [5, 2]])
    by_user, by_item = binary(interactions(pairs))
    for shrinkage, expected in ((0.0, 1), (10.0, 2)):
        near = nearest(by_item, by_user, cosine(by_item, shrinkage), 1)
        assert int(near.columns[0]) == expected


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("item_knn", "neighbours", 0),
        ("item_knn", "shrinkage", -1),
        ("user_knn", "neighbours", 0),
        ("rp3beta", "alpha", -1),
        ("rp3beta", "beta", -1),
    ],
)
def test_options_out_of_range_are_errors(name: str, option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"baseline\.{option}"):
        registry.baselines.build({"name": name, option: value}, 12, 17)
