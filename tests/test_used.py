"""What a run is told of users and items belongs to its data: when it changes, no result and no checkpoint is taken."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console
from test_coldstart import CPU, SHORT, done, films, run_of  # noqa: F401  # a fixture

from recgraph.data.features import Attributes, Features
from recgraph.data.used import attributes_fingerprint
from recgraph.errors import TrainingError
from recgraph.experiments.running import Settings, execute
from recgraph.experiments.scheduling import preview
from recgraph.experiments.task import Task

ITEMS = {
    "id": [1, 2, 3],
    "plot": ["a", "bc", None],
    "tags": [["x", "y"], ["z"], []],
    "year": [1.0, None, 3.0],
    "vector": [[1.0, 2.0], [3.0, 4.0], None],
    "cites": [[2, 3], [], [1]],
}
CONFIG: dict[str, Any] = {
    "content": {"text": {"side": "item", "columns": ("plot", "tags", "year", "vector"), "file": None}},
    "relations": {
        "cited": {"side": "item", "column": "cites", "content": None},
        "alike": {"side": "item", "column": None, "content": "text"},
    },
    "labels": {
        "age": {"of": "user", "feature": "age"},
        "rated": {"of": "interaction", "feature": "rating"},
    },
}


def found(config: dict[str, Any] = CONFIG, root: Path = Path(), **changes: list[Any]) -> str | None:
    """The fingerprint where some columns hold something else."""
    users = {"id": [7, 8], "age": [20, 30]}
    frames = [
        pl.DataFrame({name: pl.Series(changes.get(name, values), strict=False) for name, values in side.items()})
        for side in (users, ITEMS)
    ]
    return attributes_fingerprint(config, Features(*map(Attributes, frames)), root)


@pytest.mark.parametrize(
    "changes",
    [
        {"plot": ["ab", "c", None]},
        {"plot": ["a", "bc", ""]},
        {"tags": [["x"], ["y", "z"], []]},
        {"tags": [["x", "y"], ["z"], None]},
        {"tags": [[], [], []]},
        {"year": [1.0, 2.0, 3.0]},
        {"vector": [[1.0, 2.0], [3.0, 4.5], None]},
        {"cites": [[2], [3], [1]]},
        {"age": [20, 31]},
    ],
)
def test_what_a_named_column_says_counts(changes: dict[str, list[Any]]) -> None:
    assert found(**changes) != found()


def test_what_is_not_named_does_not_count() -> None:
    less = {"content": {"text": {"side": "item", "columns": ("plot",), "file": None}}}
    assert found(less, year=[9.0] * 3, age=[1, 2]) == found(less)
    assert found(less) != found()
    assert found({}) is None
    assert found({"labels": {"rated": CONFIG["labels"]["rated"]}}) is None  # the split's fingerprint has it


def test_vectors_of_a_file_count_and_their_order_does_not(tmp_path: Path) -> None:
    config = {"content": {"vec": {"side": "item", "columns": (), "file": "a.parquet"}}}

    def of(ids: list[int], vectors: list[list[float]]) -> str | None:
        pl.DataFrame({"id": ids, "vector": vectors}).write_parquet(tmp_path / "a.parquet")
        return found(config, tmp_path)

    first = of([1, 2], [[1.0, 2.0], [3.0, 4.0]])
    assert of([2, 99, 1], [[3.0, 4.0], [9.0, 9.0], [1.0, 2.0]]) == first
    assert of([1, 2], [[1.0, 2.0], [3.0, 4.5]]) != first
    assert of([1, 3], [[1.0, 2.0], [3.0, 4.0]]) != first


@pytest.mark.parametrize("of", ["content", "labels"])
def test_a_language_model_in_a_folder_counts_and_a_name_does_not(tmp_path: Path, of: str) -> None:
    def config(model: str) -> dict[str, Any]:
        entry = {"side": "item", "columns": ("plot",), "file": None, "by": "sentences", "model": model}
        label = {"of": "interaction", "feature": "rating", "text_by": "sentences", "text_model": model}
        return {"content": {"text": entry}} if of == "content" else {"labels": {"rated": label}}

    model = tmp_path / "model"
    (model / "1_Pooling").mkdir(parents=True)
    weights = model / "1_Pooling" / "weights"
    weights.write_bytes(b"one")
    first = found(config(str(model)))
    weights.write_bytes(b"two")
    os.utime(weights, ns=(1, 1))
    assert found(config(str(model))) not in (first, None)
    weights.write_bytes(b"one")
    assert found(config(str(model))) == first
    assert found(config("a")) == found(config("b"))


def with_other_plots(films: Path) -> None:  # noqa: F811
    table = films.parent / "data" / "raw" / "films" / "films.tsv"
    table.write_text(table.read_text().replace("a love story", "a moon story"))


def test_a_result_on_other_content_is_done_anew_and_shares_its_table(films: Path) -> None:  # noqa: F811
    rows = ("hybrid", "content_knn", "popularity")
    before = {row: done(films, row, **({} if row != "hybrid" else SHORT)) for row in rows}
    tags_alone = done(films, "content_knn", content={"tags": {"columns": ["genres"]}})
    assert "attributes_fingerprint" not in before["popularity"][1]
    assert done(films, "hybrid", **SHORT) == before["hybrid"]  # read again
    with_other_plots(films)
    runs = [run_of(films, row, **({} if row != "hybrid" else SHORT)) for row in rows]
    states = [cell.state for cell in preview(runs, Path("runs"), settings=Settings(CPU))]
    assert states == ["stale", "stale", "done"]
    for row in rows:
        folder, result = done(films, row, **({} if row != "hybrid" else SHORT))
        aside = folder.with_name(f"{folder.name}.old-1")
        assert aside.exists() == (row != "popularity")
        assert result["data_fingerprint"] == before[row][1]["data_fingerprint"]
        assert result["config_hash"] == before[row][1]["config_hash"]
    assert done(films, "content_knn", content={"tags": {"columns": ["genres"]}}) == tags_alone


def test_a_result_that_does_not_say_what_content_it_saw_is_of_older_code(films: Path) -> None:  # noqa: F811
    folder, result = done(films, "content_knn")
    del result["attributes_fingerprint"]
    for code in (result["code"], "0" * 64):
        (folder / "result.json").write_text(json.dumps({**result, "code": code}))
        run = run_of(films, "content_knn")
        taken = execute(run, Path("runs"), settings=Settings(CPU, any_code=True), console=Console(quiet=True))
        assert "attributes_fingerprint" not in taken


def test_an_interrupted_run_is_not_resumed_on_other_content(
    films: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Task, "test", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        done(films, "hybrid", **SHORT)
    with_other_plots(films)
    with pytest.raises(TrainingError, match="a run on other data was interrupted here"):
        done(films, "hybrid", **SHORT)
