"""Seconds to a share are those of the first validation at it or above, and are blank for more than the best."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recgraph.experiments.convergence import curve, reached, seconds_to

LINES = [
    {"epoch": 1, "elapsed": 1.5},
    {"epoch": 2, "elapsed": 3.0, "validation": {"ndcg@10": 0.5, "recall@10": 0.99}},
    {"epoch": 4, "elapsed": 6.5, "validation": {"ndcg@10": 0.96, "recall@10": 0.1}},
    {"epoch": 6, "elapsed": 9.0, "validation": {"ndcg@10": 0.9, "recall@10": 0.1}},
    {"epoch": 8, "elapsed": 12.0, "validation": {"ndcg@10": 1.0, "recall@10": 0.1}},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text("train: {monitor: ndcg@10}\n")
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return tmp_path


def test_it_is_the_first_validation_at_the_share(folder: Path) -> None:
    assert reached(curve(folder)) == {
        "epochs_to_95": 4,
        "seconds_to_95": 6.5,
        "epochs_to_99": 8,
        "seconds_to_99": 12.0,
    }
    assert [seconds_to(mark, 2.0, [folder]) for mark in (1.0, 1.82, 2.0, 2.01)] == [3.0, 6.5, 12.0, None]


def test_seeds_have_bests_of_their_own(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    slow = tmp_path_factory.mktemp("slow")
    (slow / "config.yaml").write_text("train: {monitor: ndcg@10}\n")
    (slow / "metrics.jsonl").write_text(json.dumps(LINES[1] | {"elapsed": 5.0}) + "\n")
    assert seconds_to(0.5, 1.0, [folder, slow]) == 4.0  # the second's best is .5, and the first's 1
    assert seconds_to(0.9, 1.0, [folder, slow]) == 5.75


def test_a_baseline_has_no_curve(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("baseline: {name: ease}\n")
    assert reached(curve(tmp_path)) == {}
