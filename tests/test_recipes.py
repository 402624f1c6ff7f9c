"""Encoders and objectives with options, from a file to a saved model that ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console

from recgraph.experiments.experiment import plan
from recgraph.experiments.running import Settings, execute
from recgraph.models.model import Model

ROWS = """
rows:
  popularity: {baseline: popularity}
  NGCF: {encoder: {name: ngcf, dim: 8, num_layers: 2}}
  GAT: {encoder: {name: gat, dim: 8, num_layers: 2, num_heads: 2}}
  LightGCN++: {encoder.layer_weights: 0.2, encoder.alpha: 0.6, encoder.beta: -0.1, encoder.unit_messages: true}
  learned: {encoder.layer_weights: learned}
  as before: {encoder.first_layer: 1}
  listed: {encoder.layer_weights: [0, 1, 1]}
  UltraGCN:
    encoder: {name: embedding, dim: 8}
    objectives: {rank: {name: ultragcn, num_neighbours: 3}}
    negatives: {name: uniform, num: 20}
  UltraGCN shared:
    encoder: {name: embedding, dim: 8}
    objectives: {rank: {name: ultragcn, num_neighbours: 3}}
    negatives: {name: uniform, num: 20, shared_by: 64}
  corrected own: {objectives.rank: {name: softmax, logq: true, temperature: 0.5}, negatives: {name: popularity, num: 5}}
  corrected in-batch:
    objectives.rank: {name: softmax, logq: true, temperature: 0.5}
    negatives: {name: in_batch, shared_by: 64}
"""


@pytest.fixture
def recipes(toy: Path) -> Path:
    toy.write_text(toy.read_text().partition("rows:")[0] + ROWS.lstrip())
    return toy


def test_every_recipe_learns_and_is_loaded_as_it_was_saved(recipes: Path) -> None:
    scores = {}
    for run in plan(recipes, seeds=[0]):
        result = execute(run, Path("runs"), settings=Settings(torch.device("cpu")), console=Console(quiet=True))
        scores[run.row] = result["test"]["ndcg@10"]
        model = Model.load(run.folder(Path("runs")))
        assert len(model.recommend("u3", k=5)) == 5
        if run.row.startswith("UltraGCN"):
            assert model.graph is None  # only its training reads one
    for row, score in scores.items():
        assert row == "popularity" or score > scores["popularity"] + 0.02, scores


def test_a_row_of_the_first_layer_is_the_mean_of_the_rest(recipes: Path) -> None:
    configs = {run.row: run.config.get("encoder") for run in plan(recipes, seeds=[0])}
    assert configs["as before"]["layer_weights"] == "mean"
    assert configs["listed"]["layer_weights"] == [0.0, 1.0, 1.0]
