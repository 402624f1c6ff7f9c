"""Readers: good files against values written by hand and against naive parsing; every kind of bad file."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import tracemalloc
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recgraph.data.readers import read
from recgraph.errors import ConfigError, DataError

RATINGS = {"user": "int", "item": "int", "rating": "float", "time": "int"}
TSV: dict[str, Any] = {"format": "tsv", "header": False, "columns": RATINGS}
CSV: dict[str, Any] = {"format": "csv", "columns": RATINGS}
DATES = {"format": "csv", "header": False, "columns": {"item": "str", "time": "date"}}
TITLES: dict[str, Any] = {"format": "csv", "separator": "|", "header": False}
TITLES["columns"] = {"item": "int", "title": "str", "year": "int?"}
QUOTED: dict[str, Any] = {"format": "csv", "quote": '"', "columns": {"item": "int", "title": "str"}}
RECBOLE: dict[str, Any] = {"format": "recbole"}
ADJACENCY: dict[str, Any] = {"format": "adjacency"}
COUNTS: dict[str, Any] = {"format": "counts"}
TAGS: dict[str, Any] = {"format": "json_lists", "columns": {"item": "int", "tag": "int"}}
REVIEWS: dict[str, Any] = {
    "format": "jsonl",
    "columns": {"user": "str", "item": "str", "rating": "float", "time": "int", "name": "str?"},
    "names": {"user": "reviewerID", "item": "asin", "rating": "overall"},
}
REVIEW = {"reviewerID": "A1", "asin": "B1", "overall": 5.0, "time": 10, "name": "x"}


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(folder: Path, content: str | bytes, **options: Any) -> list[tuple[Any, ...]]:
    return read(write(folder, content), **options).rows()


def review(**changes: Any) -> str:
    return json.dumps({**REVIEW, **changes})


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        pytest.param("1\t2\t3\t4\n", TSV, [(1, 2, 3.0, 4)], id="tsv"),
        pytest.param("1\t2\t3.5\t4\r\n5\t6\t7\t-8", TSV, [(1, 2, 3.5, 4), (5, 6, 7.0, -8)], id="crlf, no last end"),
        pytest.param("1\t2\t3\t4\n\n\r\n", TSV, [(1, 2, 3.0, 4)], id="blank lines at the end"),
        pytest.param(
            "time,x,item,user,rating\n9,é,2,1,.5\n", CSV, [(1, 2, 0.5, 9)], id="header, other order, more columns"
        ),
        pytest.param("\ufeffuser,item,rating,time\n1,2,3,4\n", CSV, [(1, 2, 3.0, 4)], id="byte order mark"),
        pytest.param(
            "movieId,userId\n7,u1\n",
            {**CSV, "columns": {"user": "str", "item": "int"}, "names": {"user": "userId", "item": "movieId"}},
            [("u1", 7)],
            id="names",
        ),
        pytest.param("1::2::3::4\n", {**TSV, "separator": "::"}, [(1, 2, 3.0, 4)], id="two-character separator"),
        pytest.param("1 2 3 4\n", {**TSV, "separator": " "}, [(1, 2, 3.0, 4)], id="spaces"),
        pytest.param(
            '1|"Amélie|1999\n2||\n3|12" Vinyl ""|2001\n'.encode("latin-1"),
            {**TITLES, "encoding": "latin-1"},
            [(1, '"Amélie', 1999), (2, "", None), (3, '12" Vinyl ""', 2001)],
            id="stray quotes, empty fields, latin-1",
        ),
        pytest.param(
            'item,title\n1,"a, ""b""\nc"\n2,d\n',
            QUOTED,
            [(1, 'a, "b"\nc'), (2, "d")],
            id="quotes asked for",
        ),
        pytest.param(
            "1|skipped|2\n", {**TITLES, "columns": {"item": "int", "x": "skip", "year": "int"}}, [(1, 2)], id="skip"
        ),
        pytest.param("5 1 2\n6\n7 \n1 9\n", {"format": "adjacency"}, [(5, 1), (5, 2), (1, 9)], id="user without items"),
        pytest.param(
            "b x y\r\n", {"format": "adjacency", "columns": {"user": "str", "tag": "str"}}, [("b", "x"), ("b", "y")],
            id="adjacency of strings",
        ),
        pytest.param(
            "(0,25)\t7\t25\n(3,1)\t2 4\r\n", {"format": "negatives"},
            [(0, 25), (0, 7), (0, 25), (3, 1), (3, 2), (3, 4)], id="negatives",
        ),
        pytest.param("2 7 8\n0\n1 3\n", {"format": "counts"}, [(0, 7), (0, 8), (2, 3)], id="counts"),
        pytest.param(
            "1 3\n", {"format": "counts", "columns": {"item": "int", "tag": "int"}, "first": 1}, [(1, 3)], id="from 1"
        ),
        pytest.param(
            "a b\r\n\nc\r\n",
            {"format": "lines", "columns": {"tag": "int", "name": "str"}},
            [(0, "a b"), (1, ""), (2, "c")],
            id="lines",
        ),
        pytest.param(
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t4\n",
            {**RECBOLE, "columns": RATINGS, "names": {"user": "user_id", "item": "item_id", "time": "timestamp"}},
            [(1, 2, 3.0, 4)],
            id="recbole",
        ),
        pytest.param(
            "item_id:token\tclass:token_seq\tw:float_seq\tyear:float\n1\tA B\t.1 .2\t1995\n",
            {"format": "recbole"},
            [("1", "A B", ".1 .2", 1995.0)],
            id="recbole types from the header",
        ),
        pytest.param(
            f"{review()}\n{review(overall=4, name=None, more=[1])}\n",
            REVIEWS,
            [("A1", "B1", 5.0, 10, "x"), ("A1", "B1", 4.0, 10, None)],
            id="json lines",
        ),
        pytest.param(
            "i,2021-03-01\nj,2021-03-01T10:00:30.5Z\nk,\nl,2021-03-01 10:00+02:00\n",
            {"format": "csv", "header": False, "columns": {"item": "str", "time": "date?"}},
            [("i", 1614556800.0), ("j", 1614592830.5), ("k", None), ("l", 1614585600.0)],  # by GNU date
            id="dates",
        ),
        pytest.param(
            '{"item": 1, "time": "1969-12-31 23:59:59"}\n{"item": 2, "time": "1970-01-02"}',
            {"format": "jsonl", "columns": {"item": "int", "time": "date"}},
            [(1, -1.0), (2, 86400.0)],
            id="dates in json",
        ),
        pytest.param(
            '1::"a::b"\n2::c\n',
            {"format": "csv", "header": False, "separator": "::", "quote": '"', "columns": {"item": "int", "title": "str"}},
            [(1, "a::b"), (2, "c")],
            id="a long separator inside quotes",
        ),
        pytest.param(
            f'item,title\n1,"{"so good, " * 20_000}"\n',
            QUOTED,
            [(1, "so good, " * 20_000)],
            id="a field longer than the limit of csv",
        ),
        pytest.param(
            '{"4": [1, 2],\n "9": [], "5": [1]}',
            TAGS,
            [(4, 1), (4, 2), (5, 1)],
            id="json lists",
        ),
    ],
)  # fmt: skip
def test_reads(tmp_path: Path, content: str | bytes, options: dict[str, Any], expected: list[Any]) -> None:
    assert rows(tmp_path, content, **options) == expected
    packed = gzip.compress(content if isinstance(content, bytes) else content.encode())
    assert rows(tmp_path, packed, **options) == expected


def test_column_types(tmp_path: Path) -> None:
    frame = read(write(tmp_path, "1|a|\n"), **TITLES)
    assert frame.schema == {"item": pl.Int64, "title": pl.String, "year": pl.Int64}
    frame = read(write(tmp_path, review(overall=4)), **REVIEWS)
    assert list(frame.dtypes) == [pl.String, pl.String, pl.Float64, pl.Int64, pl.String]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        # fields of a table; the first line is good, so that the number of the line is checked too
        ("1\t2\t3\t4\n1\t2\t3\n", TSV, "line 2: expected 4 fields, found 3: '1\\t2\\t3'"),
        ("1\t2\t3\t4\n1\t2\t3\t4\t5\n", TSV, "line 2: expected 4 fields, found 5"),
        ("1|a|2\n1|a\n", TITLES, "line 2: expected 3 fields, found 2: '1|a'"),
        ("1\t2\t3\t4\n\n1\t2\t3\t4\n", TSV, "line 2: expected 4 fields, found 1: ''"),
        ("1\t2\t3\t4\n1\t2\tgood\t4\n", TSV, "line 2: rating 'good' is not a number"),
        ("1\t2\t3\t4\n1\t2\tnan\t4\n", TSV, "line 2: rating 'nan' is not a number"),
        ("1\t2\t3\t4\n1\t2\t1e999\t4\n", TSV, "line 2: rating inf is not finite"),
        ("i,2021-03-01\nj,2021-02-30\n", DATES, "line 2: time '2021-02-30' is not a date such as 2021-03-01 10:00"),
        ("i,2021-03-01\nj,03/01/2021\n", DATES, "line 2: time '03/01/2021' is not a date"),
        ("i,2021-03-01\nj,\n", DATES, "line 2: time is empty"),
        ("1\t2\t3\t4\n1\t2\t3\t2021-03-01\n", TSV, "time '2021-03-01' is not an integer; for dates, the type is date"),
        ("1\t2\t3\t4\n1\t2\t3\t4.5\n", TSV, "line 2: time '4.5' is not an integer: '1\\t2\\t3\\t4.5'"),
        ("1\t2\t3\t4\n1\t2\t3\t\n", TSV, "line 2: time is empty"),
        ("1\t2\t3\t4\n\t2\t3\t4\n", TSV, "line 2: user is empty"),
        ("1\t2\t3\t4\n1\tnull\t3\t4\n", TSV, "line 2: item 'null' is not an integer"),
        ("1\t2\t3\t4\n1\t-2\t3\t4\n", TSV, "line 2: item -2 is negative"),
        ("1\t2\t3\t4\n1\t9223372036854775808\t3\t4", TSV, "does not fit in 64 bits"),
        (" 1\t2\t 3\t4\n1\tx\t3\t4\n", TSV, "line 2: item 'x' is not an integer"),
        ("1\t2\t3\t4 \n", TSV, "line 1: time '4 ' is not an integer"),
        (
            "user,item\na,b\n,c\n", {"format": "csv", "columns": {"user": "str", "item": "str"}},
            "line 3: user is empty",
        ),
        (b"1|a|2\n1|\xe9|2\n", TITLES, r"line 2: not valid utf-8; perhaps another encoding: '1|\\xe9|2'"),
        (b"1|a|2\n1|\x81|2\n", {**TITLES, "encoding": "cp1252"}, "line 2: not valid cp1252"),
        ("1::2::3::4\n1::2::x::4\n", {**TSV, "separator": "::"}, "line 2: rating 'x' is not a number: '1::2::x::4'"),
        ("1::2::3::\x1f\n", {**TSV, "separator": "::"}, "cannot be split at '::'"),
        ("1\t2\tx" + 200 * "y" + "\t4\n", TSV, "y...'"),
        # headers
        ("user,items,rating,time\n1,2,3,4\n", CSV, "no column 'item' in the header. Did you mean 'items'?"),
        ("user,item,item,rating,time\n1,2,2,3,4\n", CSV, "two columns are called 'item'"),
        ("user,item,rating,time\n1,2,3\n", CSV, "line 2: expected 4 fields, found 3"),
        ("user,item,rating,time\n", CSV, "no rows"),
        (
            'item,title\n1,"a\nb"\n2,"c"d"\n', QUOTED,
            "line 4: ',' expected after '\"'",
        ),
        (
            'item,title\n1,"a"\n2\n', QUOTED,
            "line 3: expected 2 fields, found 1",
        ),
        ("user_id\titem_id:token\n1\t2\n", RECBOLE, "line 1: 'user_id' is not a name with :token"),
        ("user_id:tokn\n1\n", RECBOLE, "line 1: 'user_id:tokn' is not"),
        (
            "user_id:token\titem_id:token\n1\t2\n", {"format": "recbole", "columns": {"user": "int"}},
            "no column 'user' in the header. Did you mean 'user_id'?",
        ),
        ("rating:float\n1\nx\n", RECBOLE, "line 3: rating 'x' is not a number"),
        # lists
        ("0 1\n1 2 x\n", ADJACENCY, "line 2: item 'x' is not an integer: '1 2 x'"),
        ("0 1\nx\n", ADJACENCY, "line 2: user 'x' is not an integer"),
        ("0 1\n1 -2\n", ADJACENCY, "line 2: item -2 is negative"),
        ("0 1\n\n2 3\n", ADJACENCY, "line 2: user is empty: ''"),
        ("0\n1\n", ADJACENCY, "no rows"),
        ("1 5\n2 7\n", COUNTS, "line 2: the count is '2', but 1 follow: '2 7'"),
        ("1 5\nx 7\n", COUNTS, "line 2: the count is 'x', but 1 follow"),
        ("1 5\n\n1 7\n", COUNTS, "line 2: the count is '', but 0 follow"),
        ("1 5\n1 x\n", COUNTS, "line 2: item 'x' is not an integer"),
        # JSON
        (f"{review()}\n{review()[:-1]}\n", REVIEWS, "line 2: malformed JSON (Expecting ',' delimiter)"),
        (f"{review()}\n\n{review()}", REVIEWS, "line 2: malformed JSON (Expecting value): ''"),
        ("[1]\n", REVIEWS, "line 1: expected a JSON object: '[1]'"),
        ("[" * 100_000, REVIEWS, "line 1: JSON that cannot be read"),
        (review(overall=9).replace("9", "9" * 5000), REVIEWS, "line 1: JSON that cannot be read"),
        (review(overall=10**400), REVIEWS, "line 1: rating has 401 digits: too large for a number"),
        ('{"reviewrID": "A"}\n', REVIEWS, "line 1: no key 'reviewerID'. Did you mean 'reviewrID'?"),
        (review(overall="5"), REVIEWS, "line 1: rating '5' is not a number"),
        (review(time=1.5), REVIEWS, "line 1: time 1.5 is not an integer"),
        (review(time=True), REVIEWS, "line 1: time True is not an integer"),
        (review(overall=None), REVIEWS, "line 1: rating is null"),
        (review(overall=float("nan")), REVIEWS, "line 1: rating nan is not finite"),
        (review(asin=7), REVIEWS, "line 1: item 7 is not a string"),
        (f"{review()}\n{review(asin=chr(0xD800))}", REVIEWS, r"line 2: '\ud800' is half of a character"),
        (review(asin=""), REVIEWS, "line 1: item is empty"),
        (
            '{"1": [2],\n"x": [3]}', TAGS,
            "key 'x': item 'x' is not an integer: [3]",
        ),
        (
            '{"1": 2}', TAGS,
            "key '1': expected a list: 2",
        ),
        (
            '{"1": [2, "3"]}', TAGS,
            "key '1': tag '3' is not an integer",
        ),
        (
            '{"1": [2],\n"2": [3,]}', TAGS,
            "line 2: malformed JSON",
        ),
        # whole files
        ("", TSV, "the file is empty"),
        ("\n\n", TSV, "the file is empty"),
        (gzip.compress(b"1\t2\t3\t4\n" * 999, mtime=0)[:-20], TSV, "damaged gzip, perhaps cut short"),
        (gzip.compress(b"1\t2\t3\t4\n", mtime=0)[:-8] + 8 * b"\0", TSV, "damaged gzip"),
    ],
)  # fmt: skip
def test_bad_files(tmp_path: Path, content: str | bytes, options: dict[str, Any], message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read(path, **options)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 400


def test_long_files_are_decoded_across_blocks(tmp_path: Path) -> None:
    """A character of two bytes begins at every odd place, so that one lies across each border of a block."""
    path = tmp_path / "long"
    lines = ["aé" + "é" * 40 for _ in range(40_000)]
    path.write_bytes("\n".join(lines).encode())
    assert read(path, format="lines", columns={"id": "int", "text": "str"})["text"].to_list() == lines
    path.write_bytes("\n".join(lines).encode() + "\né".encode()[:-1])
    with pytest.raises(DataError, match="line 40001: not valid utf-8"):
        read(path, format="lines", columns={"id": "int", "text": "str"})


@pytest.mark.parametrize("options", [CSV, {**CSV, "quote": '"'}, {"format": "jsonl", "columns": CSV["columns"]}])
def test_an_emoji_costs_no_memory(tmp_path: Path, options: dict[str, Any]) -> None:
    """Python keeps four bytes for each character of a string with an emoji, so that a file must not become one."""
    path = tmp_path / "file"
    peaks = []
    for last in ("end", "🙂"):
        notes = ["word " * 200] * 2_000 + [last]
        rows = [dict.fromkeys(options["columns"], 1) | {"note": note} for note in notes]
        if options["format"] == "jsonl":
            path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
        else:
            pl.DataFrame(rows).write_csv(path)
        tracemalloc.start()
        read(path, **{**options, "columns": options["columns"] | {"note": "str"}})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: No such file"):
        read(tmp_path / "nowhere", **TSV)
    with pytest.raises(DataError, match="Is a directory"):
        read(tmp_path, **TSV)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "cvs"}, "format 'cvs'.*'csv', 'tsv'"),
        ({**CSV, "seperator": ";"}, "format 'csv': seperator: Extra inputs"),
        ({**CSV, "columns": {"user": "integer"}}, "format 'csv': columns.user: Input should be 'int'"),
        ({**CSV, "names": {"itm": "x"}}, "names: no column 'itm'. Did you mean 'item'?"),
        ({**TSV, "names": {"item": "x"}}, "names: without a header"),
        ({**CSV, "names": {"item": "x", "user": "x"}}, "are both read from the column 'x'"),
        ({**CSV, "names": {"item": "user"}}, "names: 'user' and 'item' are both read from the column 'user'"),
        ({**CSV, "columns": {}}, "columns: Dictionary should have at least 1"),
        ({"format": "adjacency", "columns": {"user": "int"}}, "expected two"),
        ({"format": "lines", "columns": {"tag": "str", "name": "str"}}, "types int and str"),
        ({**CSV, "encoding": "utf-16"}, "encoding: Input should be 'utf-8'"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "nowhere", **options)


IDS = st.integers(0, 2**63 - 1)
WORDS = st.text(st.characters(exclude_characters="\n\r,\x1f", codec="utf-8"), min_size=1)
SETTINGS = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(st.lists(st.tuples(IDS, st.lists(IDS)), min_size=1))
def test_adjacency_round_trip(tmp_path: Path, users: list[tuple[int, list[int]]]) -> None:
    path = write(tmp_path, "\n".join(" ".join(map(str, (user, *items))) for user, items in users))
    expected = [(user, item) for user, items in users for item in items]
    if expected:
        assert read(path, "adjacency").rows() == expected
    path = write(tmp_path, "\n".join(" ".join(map(str, (len(items), *items))) for _, items in users))
    expected = [(number, item) for number, (_, items) in enumerate(users) for item in items]
    if expected:
        assert read(path, "counts").rows() == expected


@SETTINGS
@given(
    st.lists(st.tuples(IDS, WORDS, st.floats(allow_nan=False, allow_infinity=False), WORDS), min_size=1),
    st.sampled_from([",", "::", ", "]),
    st.booleans(),
)
def test_table_round_trip(tmp_path: Path, table: list[Any], separator: str, header: bool) -> None:
    table = [row for row in table if not any(":" in word or word[0] == " " for word in row[1::2])]
    if not table:
        return
    columns = {"user": "int", "item": "str", "rating": "float", "text": "str"}
    lines = [separator.join(map(str, row)) for row in table]
    path = write(tmp_path, "\n".join([separator.join(columns)] * header + lines))
    assert read(path, "csv", columns=columns, separator=separator, header=header).rows() == table


@SETTINGS
@given(st.lists(st.tuples(IDS, st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])), IDS), min_size=1))
def test_quoted_round_trip(tmp_path: Path, table: list[Any]) -> None:
    path = tmp_path / "file"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_NONNUMERIC).writerows(table)
    columns = {"user": "int", "text": "str", "time": "int"}
    assert read(path, "csv", columns=columns, header=False, quote='"').rows() == table


@SETTINGS
@given(
    st.lists(
        st.sampled_from(
            ["1", "", "-1", "2.5", "x", "1e3", " 7", "7 ", "+3", "nan", "1_0", "2021-03-01", "2021-03-01 "]
        ),
        min_size=1,
    )
)
def test_fast_and_slow_agree(tmp_path: Path, values: list[str]) -> None:
    """Polars and the row by row pass call the same fields good: an error always names a line."""
    path = write(tmp_path, "".join(f"{value},x\n" for value in values))
    messages = []
    for kind, name in itertools.product(("int", "float", "int?", "float?", "date", "date?"), ("user", "count")):
        try:
            read(path, "csv", header=False, columns={name: kind, "x": "str"})
        except DataError as error:
            messages.append(str(error))
    assert all(", line " in message for message in messages)


def test_mirror_files_equal_naive_parsing(mirror: Path) -> None:
    frame = read(mirror / "ml-100k/u.data", **TSV)
    lines = (mirror / "ml-100k/u.data").read_text().splitlines()
    naive = [(int(u), int(i), float(r), int(t)) for u, i, r, t in map(str.split, lines)]
    assert frame.rows() == naive
    frame = read(mirror / "gowalla/test.txt", "adjacency")
    words = [list(map(int, line.split())) for line in (mirror / "gowalla/test.txt").read_text().splitlines()]
    assert frame.rows() == [(user, item) for user, *items in words for item in items]
    assert read(mirror / "citeulike-a/users.dat", "counts").height == 204_986
