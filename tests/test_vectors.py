"""Files of ready vectors: found by id, whatever their order; what is wrong with one is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recgraph.data.vectors import read_vectors
from recgraph.errors import DataError

IDS = pl.Series("id", [10, 20, 30])


def test_parquet_and_npy_are_aligned_by_id(tmp_path: Path) -> None:
    tmp_path /= "of [x*]"  # as a pattern it would not match itself
    tmp_path.mkdir()
    table = pl.DataFrame({"id": [30, 99, 10], "vector": [[3.0, 3.0], [9.0, 9.0], [1.0, 1.0]]})
    table.write_parquet(tmp_path / "a.parquet")
    np.save(tmp_path / "b.npy", np.array([[3.0, 3.0], [9.0, 9.0], [1.0, 1.0]], np.float32))
    table.select("id").write_parquet(tmp_path / "b.parquet")
    for name in ("a.parquet", "b.npy"):
        found = read_vectors(tmp_path / name, IDS, "content.x")
        assert found["id"].to_list() == [10, 20, 30]
        assert found["vector"].to_list() == [[1, 1], None, [3, 3]]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"id": [10, 10], "vector": [[1.0], [2.0]]}, "the id 10 is repeated"),
        ({"id": ["10"], "vector": [[1.0]]}, "ids are String, but Int64"),
        ({"id": [7], "vector": [[1.0]]}, r"none of its ids, such as \[7\], is in the dataset"),
        ({"id": [10], "vektor": [[1.0]]}, "no column vector; expected id and vector"),
    ],
)
def test_bad_tables_are_explained(tmp_path: Path, table: dict[str, list[object]], message: str) -> None:
    pl.DataFrame(table).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message):
        read_vectors(tmp_path / "a.parquet", IDS, "content.x")


def test_bad_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"content.x.file: cannot read .*a.parquet"):
        read_vectors(tmp_path / "a.parquet", IDS, "content.x")
    pl.DataFrame({"id": [10, 20]}).write_parquet(tmp_path / "b.parquet")
    np.save(tmp_path / "b.npy", np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"expected a matrix of 2 rows, .* got the shape \(3, 2\)"):
        read_vectors(tmp_path / "b.npy", IDS, "content.x")
    np.save(tmp_path / "b.npy", np.array([[{}], [{}]]), allow_pickle=True)
    with pytest.raises(DataError, match="cannot read"):
        read_vectors(tmp_path / "b.npy", IDS, "content.x")
