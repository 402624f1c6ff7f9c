"""Files of ready vectors: found by id, whatever their order; what is wrong with one is said."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest

from recgraph.data.modalities import ModalitySettings, fit_modality
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


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_any_type_become_centred_unit_vectors(tmp_path: Path, dtype: str, order: Literal["C", "F"]) -> None:
    values = np.array([[3, 4, 1], [0, 0, 0], [-5, 2, 8], [1, -7, 2]], dtype, order=order)  # the second has no direction
    np.save(tmp_path / "v.npy", values)
    pl.DataFrame({"id": [20, 10, 30, 40]}).write_parquet(tmp_path / "v.parquet")
    ids = pl.Series("id", [10, 20, 30, 40, 50])
    frame = read_vectors(tmp_path / "v.npy", ids, "content.x").rename({"vector": "x"})
    known = np.array([True, True, True, False, True])
    fitted = fit_modality(ModalitySettings(file="v.npy"), frame, {"x": "vector"}, known, "content.x")
    made = fitted.transform(frame, "content.x")
    centred = np.array([[3, 4, 1], [-5, 2, 8], [1, -7, 2]]) - np.array([-1, 3, 4.5])  # the mean of ids 20 and 30
    expected = centred / np.sqrt((centred**2).sum(1, keepdims=True))
    assert made.present.tolist() == [False, True, True, True, False]
    np.testing.assert_allclose(made.values[1:4].numpy(), expected, rtol=0, atol=1e-6)
    assert not made.values[[0, 4]].any()


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
