"""The shape of the code base: one direction, light imports, one test file a module, small files."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

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
    "compatibility": ("pairing", "experiment"),
    "content": ("content", "encoders", "clcrec"),
    "data": ("cli",),
    "download": ("fetch",),
    "embedding": ("encoders",),
    "environment": ("running",),
    "errors": ("files",),
    "fields": ("fields", "encoders", "heads"),
    "figures": ("report",),
    "fitting": ("running",),
    "formats": ("readers",),
    "gru4rec": ("encoders", "sequential"),
    "label_settings": ("labels",),
    "label_tables": ("labelling",),
    "layers": ("heads",),
    "low_pass": ("sasrec",),
    "hybrid": ("content_hybrid",),
    "layout": ("fields",),
    "lightgcn": ("encoders", "lightgcn"),
    "lists": ("readers",),
    "modalities": ("content",),
    "models": ("cli",),
    "neural": ("heads",),
    "ngcf": ("encoders",),
    "operator": ("bipartite", "propagate"),
    "packing": ("model", "newcomers"),
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
    "schema": ("experiment",),
    "spaces": ("experiment", "search"),
    "tower": ("content_hybrid",),
    "transformer": ("sasrec",),
    "terms": ("content",),
    "text_settings": ("words",),
    "types": ("encoders",),
    "values": ("fields",),
}
"""Module -> whose test files cover it, where it has none of its own."""


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
