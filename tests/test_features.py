"""Features: how cards make them, and alignment with the vocabularies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from recgraph.data.features import Attributes, Feature, FeatureFile, Features, load_attributes
from recgraph.data.interactions import Vocabulary
from recgraph.errors import DataError


def load(tmp_path: Path, text: str, columns: dict[str, str], features: dict[str, Any], ids: list[Any]) -> Attributes:
    (tmp_path / "items.csv").write_text(text)
    source = {"file": "items.csv", "read": {"format": "csv", "columns": columns}, "features": features}
    return load_attributes("item", Vocabulary(ids), [FeatureFile.model_validate(source)], tmp_path)


def test_rows_follow_the_vocabulary_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    attributes = load(
        tmp_path,
        "item,title,year,genres\n7,Seven (1995),1995,Crime|Drama\n5,Five,,\n99,Not rated,2000,War\n",
        {"item": "int", "title": "str", "year": "float?", "genres": "str"},
        {
            "title": {"kind": "text", "pattern": r"^(.*?)(?: \(\d{4}\))?$"},
            "released": {"kind": "numeric", "column": "title", "pattern": r"\((\d{4})\)"},
            "year": {"kind": "numeric"},
            "genres": {"kind": "multi_hot", "separator": "|"},
        },
        [5, 6, 7],
    )
    assert attributes.frame.to_dicts() == [
        {"id": 5, "title": "Five", "released": None, "year": None, "genres": []},
        {"id": 6, "title": None, "released": None, "year": None, "genres": []},
        {"id": 7, "title": "Seven", "released": 1995.0, "year": 1995.0, "genres": ["Crime", "Drama"]},
    ]
    assert attributes.kinds == {"title": "text", "released": "numeric", "year": "numeric", "genres": "multi_hot"}
    features = Features(Attributes(attributes.frame.select("id")), attributes)
    assert [features.title(item) for item in range(3)] == ["Five", "6", "Seven"]
    assert Features(features.users, features.users).title(2) == "7"
    empty = attributes.frame.with_columns(title=pl.lit(""))
    assert Features(features.users, Attributes(empty, attributes.kinds)).title(2) == "7"


def test_empty_cells_are_missing_and_spaces_around_values_nothing(tmp_path: Path) -> None:
    attributes = load(
        tmp_path,
        "item,brand,tags\n1,Acme,x| y\n2,,y\n3, Acme ,|\n",
        {"item": "int", "brand": "str", "tags": "str"},
        {"brand": {"kind": "categorical"}, "tags": {"kind": "multi_hot", "separator": "|"}},
        [1, 2, 3],
    )
    assert attributes.frame["brand"].to_list() == ["Acme", None, "Acme"]
    assert attributes.frame["tags"].to_list() == [["x", "y"], ["y"], []]


def test_multi_hot_from_flags_is_sorted_by_name(tmp_path: Path) -> None:
    attributes = load(
        tmp_path,
        "item,War,Action\na,0,1\nb,1,1\nc,0,0\n",
        {"item": "str", "War": "int", "Action": "int"},
        {"genres": {"kind": "multi_hot", "flags": ["War", "Action"]}},
        ["a", "b", "c"],
    )
    assert attributes.frame["genres"].to_list() == [["Action"], ["Action", "War"], []]


def test_flags_are_0_or_1(tmp_path: Path) -> None:
    flags = {"genres": {"kind": "multi_hot", "flags": ["War"]}}
    with pytest.raises(DataError, match="feature 'genres': id 'b' has War -1; expected 0 or 1"):
        load(tmp_path, "item,War\na,1\nb,-1\n", {"item": "str", "War": "int"}, flags, ["a", "b"])


def test_multi_hot_from_several_rows_of_an_id(tmp_path: Path) -> None:
    attributes = load(
        tmp_path,
        "item,tag\n2,9\n1,4\n2,3\n2,9\n",
        {"item": "int", "tag": "int"},
        {"tags": {"kind": "multi_hot", "column": "tag"}},
        [1, 2, 3],
    )
    assert attributes.frame["tags"].to_list() == [[4], [3, 9], []]


def test_vectors_are_split_into_numbers(tmp_path: Path) -> None:
    text, columns = "item,v\n1,0.5 -1\n2,2 1e3\n", {"item": "int", "v": "str"}
    spec = {"v": {"kind": "vector", "separator": " "}}
    assert load(tmp_path, text, columns, spec, [1, 2]).frame["v"].to_list() == [[0.5, -1.0], [2.0, 1000.0]]
    with pytest.raises(DataError, match=r"items\.csv: feature 'v': a value does not fit the kind vector"):
        load(tmp_path, text.replace("0.5", "half"), columns, spec, [1, 2])


@pytest.mark.parametrize(
    ("text", "kind", "ids", "message"),
    [
        ("item,x\n1,3\n1,4\n", "numeric", [1], "the id 1 is repeated"),
        ("item,x\n1,old\n", "numeric", [1], "does not fit the kind numeric"),
        ("item,x\n1,7\n2,nan\n", "numeric", [1, 2], "id 2 has nan; expected a finite number or nothing"),
        ("item,x\n1,3\n", "text", ["1"], "item ids are Int64, but String in the interactions"),
        (
            "item,x\n7,3\n8,4\n",
            "numeric",
            [70, 80],
            "none of its item ids, such as 7, is in the interactions, with ids",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, kind: str, ids: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path, text, {"item": "int", "x": "str"}, {"x": {"kind": kind}}, ids)


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "numeric", "flags": ["a"]},
        {"kind": "multi_hot", "flags": ["a"], "column": "b"},
        {"kind": "multi_hot", "flags": ["a"], "separator": "|"},
        {"kind": "multi_hot", "flags": ["a"], "pattern": "(b)"},
        {"kind": "text", "separator": "|"},
        {"kind": "vector"},
        {"kind": "numeric", "colunm": "a"},
        {"kind": "number"},
    ],
    ids=str,
)
def test_options_that_do_not_fit_the_kind_are_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Feature.model_validate(spec)


@pytest.mark.parametrize(
    ("columns", "features", "message"),
    [
        ({"title": "str"}, {}, "expected a column `user` or a column `item`"),
        ({"user": "int", "item": "int"}, {}, "expected a column `user` or a column `item`"),
        ({"item": "int", "title": "str"}, {"titel": {"kind": "text"}}, "Did you mean 'title'?"),
        ({"item": "int", "id": "str"}, {"id": {"kind": "text"}}, "no feature can be called 'id'"),
    ],
)
def test_files_must_have_the_columns(columns: dict[str, str], features: dict[str, Any], message: str) -> None:
    source = {"file": "x.csv", "read": {"format": "csv", "columns": columns}, "features": features}
    with pytest.raises(ValidationError) as error:
        FeatureFile.model_validate(source)
    assert message in str(error.value)
