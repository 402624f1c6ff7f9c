"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from recgraph.data.importing import import_file

# A first call into torch's sparse kernels, or a busy machine, takes longer than hypothesis allows an example by default.
settings.register_profile("recgraph", deadline=None)
settings.load_profile("recgraph")


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of real datasets that `RECGRAPH_MIRROR` names; tests that need it are skipped without it."""
    folder = os.environ.get("RECGRAPH_MIRROR")
    if not folder:
        pytest.skip("RECGRAPH_MIRROR is not set: no real data to test with")
    return Path(folder)


TOY = """
datasets: [toy]
seeds: [0, 1]
base:
  encoder: {name: lightgcn, dim: 8, num_layers: 2}
  objectives: {rank: bpr, l2: {name: ego_l2, weight: 1.0e-4}}
  train: {lr: 0.01, batch_size: 256, max_epochs: 12, patience: 12, validate_every: 2, checkpoint_every: 2, monitor: ndcg@10}
  evaluate: {metrics: [recall@10, ndcg@10, coverage@10]}
rows:
  popularity: {baseline: popularity}
  BPR-MF: {encoder: {name: embedding, dim: 8}}
  LightGCN: {}
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment file on a dataset of its own in an empty data root: users like the items of their own kind."""
    rng = np.random.default_rng(0)
    users, items = np.arange(60), np.arange(40)
    liked = rng.random((60, 40)) < np.where(users[:, None] % 4 == items % 4, 0.8, 0.1)
    rows = [f"u{user},i{item},{rng.integers(1000)}" for user, item in rng.permutation(np.argwhere(liked))]
    (tmp_path / "toy.csv").write_text("who,what,when\n" + "\n".join(rows) + "\n")
    monkeypatch.setenv("RECGRAPH_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("RECGRAPH_MIRROR", raising=False)
    import_file(tmp_path / "toy.csv", user="who", item="what", time="when")
    (tmp_path / "toy.yaml").write_text(TOY)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "toy.yaml"
