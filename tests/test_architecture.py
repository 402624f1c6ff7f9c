"""The shape of the code base: one direction, light imports, one test file a module, small files."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

from recgraph import registry

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "recgraph").rglob("*.py"))


@pytest.mark.parametrize(
    "statement", ["import recgraph", "import recgraph.encoders", "from recgraph.encoders import LightGCN"]
)
def test_encoders_load_no_framework(statement: str) -> None:
    heavy = ("wandb", "dgl", "polars", "pydantic", "torch_geometric", "sklearn", "rich", "cyclopts")
    code = f"{statement}\nimport sys\nprint(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_imports_point_one_way() -> None:
    pytest.importorskip("importlinter")
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_holds_one_concept(path: Path) -> None:
    limit = 150 if path.parent.name == "encoders" else 300
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


TESTED_WITH = {
    "alias": ("sampling",),
    "toy": ("experiments",),
    "extending": ("newcomers", "coldstart"),
    "batches": ("sampling",),
    "batching": ("sequential_runs", "clicks", "running"),
    "attentive": ("encoders", "sequential"),
    "base": ("encoders", "objectives", "model"),
    "cards": ("datasets",),
    "cells": ("tables",),
    "checking": ("experiment",),
    "common": ("cli",),
    "expected": ("registry",),
    "compatibility": ("pairing", "experiment"),
    "content": ("content", "encoders", "clcrec"),
    "data": ("cli",),
    "download": ("fetch",),
    "embedding": ("encoders",),
    "environment": ("running",),
    "errors": ("files",),
    "explanation": ("explaining",),
    "fields": ("fields", "encoders", "heads"),
    "figures": ("report",),
    "fitting": ("running",),
    "formats": ("readers",),
    "gru4rec": ("encoders", "sequential"),
    "label_settings": ("labels",),
    "label_tables": ("labelling",),
    "training_tables": ("tables",),
    "layers": ("heads",),
    "low_pass": ("sasrec",),
    "info_nce": ("contrastive",),
    "hybrid": ("content_hybrid",),
    "layout": ("fields",),
    "lightgcn": ("encoders", "lightgcn"),
    "lists": ("readers",),
    "modalities": ("content",),
    "models": ("cli",),
    "negatives": ("sampling",),
    "neural": ("heads",),
    "ngcf": ("encoders",),
    "operator": ("bipartite", "propagate"),
    "packing": ("model", "newcomers"),
    "panels": ("explaining", "drawing"),
    "page": ("report",),
    "pooling": ("encoders", "sequential"),
    "parts": ("fields", "heads"),
    "popularity": ("model",),
    "products": ("heads",),
    "random": ("files",),
    "recommender": ("model",),
    "regularization": ("objectives",),
    "rendering": ("tables",),
    "runs": ("cli",),
    "reporting": ("report",),
    "target": ("heads",),
    "task": ("running",),
    "tasks": ("labelling",),
    "trackers": ("trainer",),
    "reading": ("experiment",),
    "schema": ("experiment",),
    "settings": ("trainer", "optimization"),
    "spaces": ("experiment", "search"),
    "tower": ("content_hybrid",),
    "transformer": ("sasrec",),
    "terms": ("content",),
    "text_settings": ("words",),
    "trials": ("tuning",),
    "types": ("encoders",),
    "values": ("fields",),
}
"""Module -> whose test files cover it, where it has none of its own."""


ROWS = "test_softmax.py::test_loss_and_gradient_equal_a_loop"
REFERENCES = {
    "aldi": "test_distillation.py::test_aldi_equals_a_loop",
    "bce": ROWS,
    "bpr": "test_objectives.py::test_bpr_equals_a_loop",
    "bsl": ROWS,
    "ccl": ROWS,
    "clcrec": "test_clcrec.py::test_clcrec_equals_a_loop",
    "content_contrast": "test_clcrec.py::test_content_contrast_equals_a_loop",
    "content_distance": "test_distillation.py::test_content_distance_equals_a_loop",
    "content_neighbours": "test_content_neighbours.py::test_it_equals_a_loop",
    "cross_entropy": "test_softmax.py::test_cross_entropy_is_torchs",
    "direct_au": "test_uniformity.py::test_loss_and_gradient_equal_a_loop",
    "ego_l2": "test_objectives.py::test_ego_l2_is_half_the_squared_norm_of_the_batch_rows_over_the_batch_size",
    "gar": "test_distillation.py::test_gar_equals_a_loop",
    "gbce": ROWS,
    "label": "test_labels.py::test_tags_of_an_item_and_numbers_of_an_interaction_equal_loops",
    "layer_contrast": "test_contrastive.py::test_layer_contrast_of_two_layers_equals_a_loop",
    "log_loss": "test_clicks.py::test_objectives_are_means_of_losses_of_probabilities",
    "prototype_contrast": "test_prototypes.py::test_it_equals_a_loop_with_its_gradient",
    "same_target_contrast": "test_sequence_contrast.py::test_same_target_contrast_is_between_a_history_and_its_partner",
    "sequence_contrast": "test_sequence_contrast.py::test_equals_a_loop",
    "softmax": ROWS,
    "squared_error": "test_clicks.py::test_objectives_are_means_of_losses_of_probabilities",
    "ultragcn": "test_ultragcn.py::test_equals_a_loop",
    "view_contrast": "test_contrastive.py::test_view_contrast_equals_a_loop_over_two_independent_views",
    "weight_decay": "test_objectives.py::test_weight_decay_is_that_of_adam",
    "crop": "test_sequence.py::test_every_outcome_comes_about",
    "crop_mask_reorder": "test_sequence.py::test_one_of_three_is_drawn_for_each_row",
    "edge_drop": "test_graph.py::test_a_view_propagates_over_what_is_left_with_the_degrees_that_are_left",
    "feature_mask": "test_hidden.py::test_a_feature_mask_hides_the_same_dimensions_everywhere",
    "item_mask": "test_sequence.py::test_every_outcome_comes_about",
    "node_drop": "test_graph.py::test_a_view_propagates_over_what_is_left_with_the_degrees_that_are_left",
    "noise": "test_hidden.py::test_lightgcn_feeds_noisy_layers_on_and_means_from_its_first_layer",
    "random_walk": "test_graph.py::test_a_random_walk_goes_over_another_graph_in_each_layer",
    "reorder": "test_sequence.py::test_every_outcome_comes_about",
    "svd": "test_graph.py::test_layers_of_the_svd_view_are_those_that_lightgcl_makes_of_the_layers_of_the_main_graph",
}
"""Objective or view -> the test that holds it to something that was written without it: a loop, or another library."""


def test_every_objective_and_view_is_held_to_a_reference() -> None:
    assert set(REFERENCES) == set(registry.objectives.components()) | set(registry.views.components())
    for file, _, test in (place.partition("::") for place in REFERENCES.values()):
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), test


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_has_tests(path: Path) -> None:
    if not path.stem.startswith("__"):
        for name in TESTED_WITH.get(path.stem, (path.stem,)):
            assert (ROOT / "tests" / f"test_{name}.py").exists(), f"{path.stem} has no tests/test_{name}.py"


def test_every_public_name_can_be_imported() -> None:
    import recgraph

    for name in recgraph.__all__:
        assert getattr(recgraph, name) is not None


def test_every_package_is_in_the_wheel() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = set(setup["options"]["packages"].split()) - {"recgraph.cards"}  # which lies in datasets/
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in SOURCES if path.name == "__init__.py"}
    assert listed == found
