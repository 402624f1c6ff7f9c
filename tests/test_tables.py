"""Tables say what was measured, how often, on what, and which figures to distrust."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from recgraph.errors import DataError
from recgraph.experiments.schema import Published
from recgraph.reporting.rendering import escape, latex, markdown
from recgraph.reporting.tables import Finished, Result, grids, tidy, write_csv


def result(row: str, seed: int, ndcg: float, **changes: object) -> Result:
    return {
        "table": "t", "row": row, "dataset": "toy", "seed": seed, "config_hash": "abc", "split": "random_by_user",
        "data_fingerprint": "f" * 64, "code": "c0de", "epochs": 30, "best_epoch": 20, "stopped": "patience",
        "refit": False, "train_seconds": 4.0, "eval_seconds": 0.5, "peak_memory_mib": 300, "device": "cpu",
        "commit": None, "dirty": None, "test_users": 58, "skipped_users": 2,
        "validation": {"ndcg@10": ndcg + 0.1}, "test": {"ndcg@10": ndcg},
    } | changes  # fmt: skip


RESULTS = [result("A", 0, 0.30), result("A", 1, 0.32), result("B", 0, 0.2, epochs=20, stopped="max_epochs")]


def finished(results: list[Result], folder: Path = Path()) -> list[Finished]:
    return [Finished(one, folder / f"{one['row']}-{one['seed']}") for one in results]


def text_of(results: list[Result], **options: object) -> str:
    return markdown(grids(finished(results), **options))


def test_cells_are_test_means_with_standard_deviation_and_the_best_is_bold() -> None:
    text = text_of(RESULTS)
    assert "**0.3100 ± 0.0141**" in text  # sd of .30 and .32 with n - 1
    assert "0.2000" in text
    assert "**0.2000**" not in text
    assert "0.4" not in text.replace("0.4000", "")  # nothing of validation


def test_notes_say_split_masks_skipped_users_definitions_and_doubts() -> None:
    text = text_of([*RESULTS[:2], RESULTS[2] | {"dirty": True, "code": "other", "refit": True}])
    assert "toy, split random_by_user, test" in text
    assert "Data ffffffffff" in text
    assert "training and validation positives masked; 58 users, 2 without test items left out" in text
    assert "ndcg: Sum of 1/log2(rank + 1) over hits" in text
    assert "Best in the last epoch, so longer training may gain: B." in text
    assert "Fitted again on train and validation before the test: B." in text
    assert "Fewer seeds than the others: B (1)." in text
    assert "uncommitted changes" in text
    assert "Not all runs are of the same code." in text
    assert "uncommitted" not in text_of(RESULTS)


def test_only_what_can_be_compared_shares_a_table() -> None:
    other = result("C", 0, 0.9, data_fingerprint="e" * 64, split="leave_last_out")
    first, second = grids(finished([*RESULTS, other]))
    assert [row[0].text for row in first.rows] == ["A", "B"]
    assert [row[0].text for row in second.rows] == ["C"]
    assert "leave_last_out" in second.title


def test_less_is_not_marked_as_best_where_more_is_not_better() -> None:
    unequal = [result(row, 0, 0.3, test={"gini@10": value}) for row, value in (("A", 0.4), ("B", 0.8))]
    assert not any(cell.best for row in grids(finished(unequal))[0].rows for cell in row)


def test_published_figures_stand_beside_ours_with_their_source_and_flag() -> None:
    published = {"toy": {"A": Published(source="their README", on_test=True, metrics={"ndcg@10": 0.25})}}
    (grid,) = grids(finished(RESULTS), published=published)
    assert list(grid.head[:4]) == ["", "ndcg@10", "published", "Δ"]
    assert [cell.text for cell in grid.rows[0][2:4]] == ["0.2500 (test)", "+24.0%"]  # .31 / .25
    assert [cell.text for cell in grid.rows[1][2:4]] == ["", ""]
    assert "Published, A: their README; its authors picked the epoch or the settings on the test set." in grid.notes
    (other,) = grids(finished(RESULTS), published={"elsewhere": published["toy"]})
    assert "published" not in other.head


def test_a_published_figure_that_is_not_measured_is_said() -> None:
    published = {"toy": {"A": Published(source="paper", metrics={"ndcg@10": 0.25, "hit@10:sampled-99": 0.5})}}
    (grid,) = grids(finished(RESULTS), published=published)
    assert "Published, A: paper; hit@10:sampled-99, which is not measured here." in grid.notes


@pytest.mark.parametrize(
    ("metrics", "groups", "shown"),
    [
        (["coverage@10", "recall@10"], ["recall@10"], "recall@10"),
        (["ndcg@10:warm", "recall@10", "ndcg@10"], ["recall@10", "ndcg@10"], "ndcg@10"),
        (["recall@10", "ndcg@10"], ["recall@10", "ndcg@10"], "ndcg@10"),
        (["coverage@10"], [], None),
    ],
)
def test_groups_are_shown_by_a_metric_that_they_have(metrics: list[str], groups: list[str], shown: str | None) -> None:
    one = result("A", 0, 0.3, test=dict.fromkeys(metrics, 0.5), groups={"head": dict.fromkeys(groups, 0.25)})
    found = [grid for grid in grids(finished([one])) if "by group" in grid.title]
    assert [grid.title for grid in found] == ([f"toy, {shown} by group"] if shown else [])
    assert all(grid.rows[0][1].text == "0.2500" for grid in found)


def test_parity_figures_have_a_column_of_their_own() -> None:
    (grid,) = grids(finished([result("A", 0, 0.3, parity={"ndcg@10": 0.35}), result("B", 0, 0.2)]))
    assert list(grid.head[:3]) == ["", "ndcg@10", "ndcg@10, epoch picked on test"]
    assert [cell.text for cell in grid.rows[0][1:3]] == ["0.3000", "0.3500"]
    assert [cell.text for cell in grid.rows[1][1:3]] == ["0.2000", ""]


@pytest.fixture
def ranked(tmp_path: Path) -> tuple[list[Finished], dict[str, np.ndarray]]:
    """Three rows of two seeds, with values of 200 users; C is A but for noise."""
    rng = np.random.default_rng(0)
    base = rng.random(200)
    runs, means = [], {}
    for row, gain, noise in (("A", 0, 0), ("B", 0.1, 0.05), ("C", 0, 0.05)):
        seeds = [base + gain + noise * rng.standard_normal(200) for _ in range(2)]
        means[row] = np.mean(seeds, axis=0)
        for seed, values in enumerate(seeds):
            one = result(row, seed, float(values.mean()), groups={"degree-q1": {"ndcg@10": 0.1}, "all": {}})
            folder = tmp_path / f"{row}-{seed}"
            folder.mkdir()
            pl.DataFrame({"user": np.arange(200), "ndcg@10": values}).write_parquet(folder / "per_user.parquet")
            runs.append(Finished(one, folder))
    return runs, means


def test_rows_are_compared_user_by_user_with_seeds_averaged_first(ranked: tuple) -> None:
    runs, means = ranked
    main, compared, groups = grids(runs, against="A")
    cells = {row[0].text: row for row in compared.rows}
    assert list(cells) == ["B", "C"]
    for row in ("B", "C"):
        assert cells[row][2].text == f"{(means[row] - means['A']).mean():+.4f}"
    p = {row: stats.ttest_rel(means[row], means["A"]).pvalue for row in ("B", "C")}
    assert cells["B"][4].text == f"{2 * p['B']:.2g}"  # Holm: the smaller of two counts twice
    assert cells["C"][4].text == f"{p['C']:.2g}"
    assert {row[0].text: row[1].mark for row in main.rows} == {"A": "", "B": "‡", "C": ""}
    assert any(note.startswith("†: p < 0.05, ‡: p < 0.01 against A") for note in main.notes)
    assert groups.rows[0][1].text == "0.1000"


def test_a_row_with_fewer_seeds_is_compared_with_the_same_seeds(ranked: tuple) -> None:
    one, two, other = ranked[0][1:4]  # A with seed 1; B with both
    (row,) = grids([one, two, other], against="B")[1].rows
    own, same = (pl.read_parquet(run.folder / "per_user.parquet")["ndcg@10"].to_numpy() for run in (one, other))
    assert row[2].text == f"{(own - same).mean():+.4f}"
    assert row[4].text == f"{stats.ttest_rel(own, same).pvalue:.2g}"


def test_a_row_without_a_seed_in_common_is_not_compared(ranked: tuple) -> None:
    runs, means = ranked
    other = Finished({**runs[2].result, "seed": 7}, runs[2].folder)  # B's only run
    main, compared, _ = grids([*runs[:2], other, *runs[4:]], against="A")
    assert [row[0].text for row in compared.rows] == ["C"]
    assert compared.rows[0][4].text == f"{stats.ttest_rel(means['C'], means['A']).pvalue:.2g}"  # of one comparison
    assert {row[0].text: row[1].mark for row in main.rows} == {"A": "", "B": "", "C": ""}
    assert "No seed in common with A, and not compared: B." in main.notes
    assert len(grids([*runs[:2], other], against="A")) == 2  # no table of differences


def test_a_metric_of_one_user_is_not_compared(ranked: tuple) -> None:
    runs, _ = ranked
    for one in runs:
        frame = pl.read_parquet(one.folder / "per_user.parquet")
        cold = pl.when(pl.col("user") == 7).then(pl.col("ndcg@10")).otherwise(float("nan"))
        frame.with_columns(cold.alias("ndcg@10:cold")).write_parquet(one.folder / "per_user.parquet")
        one.result["test"]["ndcg@10:cold"] = 0.5
    _, compared, *_ = grids(runs, against="A")
    assert {row[1].text for row in compared.rows} == {"ndcg@10"}


def test_seeds_of_other_users_are_refused(ranked: tuple) -> None:
    runs, _ = ranked
    path = runs[1].folder / "per_user.parquet"
    pl.read_parquet(path).with_columns(pl.col("user") + 1).write_parquet(path)
    with pytest.raises(DataError, match="ranked for other users"):
        grids(runs, against="A")
    with pytest.raises(DataError, match="expected the same users in the same order"):
        grids([runs[0], *(Finished(one.result, runs[1].folder) for one in runs[2:3])], against="A")


def test_latex_is_booktabs_and_escapes(ranked: tuple) -> None:
    text = latex(grids(ranked[0], against="A"))
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 3
    assert r"\textbf{" in text
    assert r"$^\ddagger$" in text
    assert r"random\_by\_user" in text
    assert "±" not in text
    assert (
        escape("50% of a_b & {c} ~ ^ \\")
        == r"50\% of a\_b \& \{c\} \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )


def test_a_name_with_a_bar_stays_in_its_cell() -> None:
    text = text_of([result("a | b", 0, 0.3)])
    (line,) = [line for line in text.splitlines() if line.startswith(r"| a \| b ")]
    assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"\|", text.splitlines()[2]))  # the head's


def test_names_stand_as_they_are_in_markdown_and_are_no_options_in_latex() -> None:
    rows = [result(name, 0, 0.3) for name in ("w/o <img> & *a*", "[MF] x", "*star", "γ ≤ 1")]
    assert r"| w/o \<img> & \*a\* " in text_of(rows)
    lines = latex(grids(finished(rows))).splitlines()
    assert any(line.startswith("{}[MF] x &") for line in lines)
    assert any(line.startswith("{}*star &") for line in lines)
    assert any(line.startswith(r"$\gamma$ $\leq$ 1 &") for line in lines)


def test_the_csv_is_tidy(tmp_path: Path) -> None:
    extra = result("C", 0, 0.4, parity={"ndcg@10": 0.5}, groups={"head": {"ndcg@10": 0.6}})
    write_csv(tmp_path / "t.csv", [*RESULTS, extra])
    frame = pl.read_csv(tmp_path / "t.csv")
    assert frame.height == 3 * 2 + 4  # runs x parts; and C's validation, test, parity, head
    test = frame.filter((pl.col("part") == "test") & (pl.col("row") == "A"))
    assert test["ndcg@10"].to_list() == pytest.approx([0.30, 0.32])
    assert frame.filter(pl.col("group") == "head")["ndcg@10"].to_list() == [0.6]
    assert frame.filter(pl.col("part") == "parity")["ndcg@10"].to_list() == [0.5]
    about = {"seed", "commit", "dirty", "code", "config_hash", "data_fingerprint", "train_seconds", "device"}
    assert about <= set(frame.columns)
    assert set(frame["data_fingerprint"]) == {"f" * 10}
    assert tidy(RESULTS).height == 6


def test_seconds_to_a_mark_stand_beside_the_speed_of_learning(tmp_path: Path) -> None:
    learned = {"epochs_to_95": 2, "seconds_to_95": 3.0, "epochs_to_99": 4, "seconds_to_99": 6.5}
    runs = finished([result("A", 0, 0.5, **learned)], tmp_path)
    folder = runs[0].folder
    folder.mkdir()
    (folder / "config.yaml").write_text("train: {monitor: ndcg@10}\n")
    lines = [f'{{"epoch": {n}, "elapsed": {1.5 * n}, "validation": {{"ndcg@10": {n / 10}}}}}' for n in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    (grid,) = [grid for grid in grids(runs, marks={"toy": {"ndcg@10": [0.3, 0.6]}}) if "speed" in grid.title]
    assert [*grid.head[-2:]] == ["s to ndcg@10 0.3000", "s to ndcg@10 0.6000"]
    # Test .5, best validation .3: .3 on test is .18 on validation, and .6 is more than the row has.
    assert [cell.text for cell in grid.rows[0]] == ["A", "2.0", "3.0", "4.0", "6.5", "3.0", ""]
    assert "the share of its own best that this is of the row's test figure" in grid.notes[-1]


def test_how_vectors_lie_is_a_table_and_rows_of_the_csv() -> None:
    lying = [
        result("A", seed, 0.3, diagnostics={"alignment": 0.5 + seed, "item_effective_rank": 20.0}) for seed in (0, 1)
    ]
    plain = result("B", 0, 0.2)
    grid = grids(finished([*lying, plain]))[-1]
    assert grid.title == "toy, how the vectors lie"
    assert [[cell.text for cell in row] for row in grid.rows] == [["A", "1.000", "20.000"]]
    rows = tidy([*lying, plain]).filter(pl.col("part") == "vectors")
    assert rows.select("row", "seed", "alignment", "item_effective_rank", "ndcg@10").rows() == [
        ("A", seed, 0.5 + seed, 20.0, None) for seed in (0, 1)
    ]
