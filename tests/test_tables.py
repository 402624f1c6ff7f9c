"""Tables say what was measured, how often, on what, and which figures to distrust."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recgraph.tables import Result, markdown, write_csv


def result(row: str, seed: int, ndcg: float, **changes: object) -> Result:
    return {
        "table": "t", "row": row, "dataset": "toy", "seed": seed, "config_hash": "abc", "split": "random_by_user",
        "data_fingerprint": "f" * 64, "epochs": 30, "best_epoch": 20, "stopped": "patience", "train_seconds": 4.0,
        "eval_seconds": 0.5, "peak_memory_mib": 300, "device": "cpu", "commit": None, "dirty": None,
        "test_users": 58, "skipped_users": 2, "validation": {"ndcg@10": ndcg + 0.1}, "test": {"ndcg@10": ndcg},
    } | changes  # fmt: skip


RESULTS = [result("A", 0, 0.30), result("A", 1, 0.32), result("B", 0, 0.2, epochs=20, stopped="max_epochs")]


def test_cells_are_test_means_with_standard_deviation_and_the_best_is_bold() -> None:
    text = markdown(RESULTS)
    assert "**0.3100** ± 0.0141" in text  # sd of .30 and .32 with n - 1
    assert "0.2000" in text
    assert "**0.2000**" not in text
    assert "0.4" not in text.replace("0.4000", "")  # nothing of validation


def test_notes_say_split_masks_skipped_users_definitions_and_doubts() -> None:
    text = markdown(RESULTS)
    assert "split random_by_user (data ffffffffff)" in text
    assert "training and validation positives masked; 58 users, 2 without test items left out" in text
    assert "ndcg: Sum of 1/log2(rank + 1) over hits" in text
    assert "Best in the last epoch, so longer training may gain: B." in text


def test_only_what_can_be_compared_shares_a_table() -> None:
    other = result("C", 0, 0.9, data_fingerprint="e" * 64, split="leave_last_out")
    first, second = markdown([*RESULTS, other]).split("\n\n|")
    assert "**0.3100**" in first
    assert "leave_last_out" in second


def test_less_is_not_marked_as_best_where_more_is_not_better() -> None:
    unequal = [result(row, 0, 0.3, test={"gini@10": value}) for row, value in (("A", 0.4), ("B", 0.8))]
    assert "**" not in markdown(unequal)


def test_the_csv_is_tidy(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", RESULTS)
    frame = pl.read_csv(tmp_path / "t.csv")
    assert frame.height == 6  # 3 runs x 2 parts x 1 metric
    test = frame.filter((pl.col("part") == "test") & (pl.col("row") == "A"))
    assert test["value"].to_list() == pytest.approx([0.30, 0.32])
    assert {"seed", "commit", "dirty", "config_hash", "data_fingerprint", "train_seconds", "device"} <= set(
        frame.columns
    )
