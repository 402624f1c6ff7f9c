"""Importing one's own file."""

from __future__ import annotations

import errno
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recgraph.data.cards import find, read_card
from recgraph.data.datasets import load
from recgraph.data.importing import import_file
from recgraph.data.splits import leave_last_out
from recgraph.errors import ConfigError, DataError

ROWS = [("7", "b", "3.5", "100"), ("12", "a", "2", "90"), ("7", "a", "5", "110")]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root."""
    monkeypatch.delenv("RECGRAPH_MIRROR", raising=False)
    return tmp_path / "root"


def write(path: Path, separator: str, rows: list[tuple[str, ...]] = ROWS) -> Path:
    lines = [("userId", "movie id", "stars", "when"), *rows]
    path.write_text("".join(separator.join(line) + "\n" for line in lines))
    return path


def take(path: Path, root: Path, **changes: Any) -> Path:
    options = {"user": "userId", "item": "movie id", "time": "when", "rating": "stars", "root": root}
    return import_file(path, **{**options, **changes})


def check(name: str, root: Path) -> None:
    interactions = load(name, root=root).interactions
    assert interactions.users.ids.tolist() == [7, 12]
    assert interactions.items.ids.tolist() == ["a", "b"]
    assert interactions.frame.to_dict(as_series=False) == {
        "user": [0, 1, 0],
        "item": [1, 0, 0],
        "time": [100, 90, 110],
        "rating": [3.5, 2.0, 5.0],
    }


@pytest.mark.parametrize("separator", [",", "\t", ";", "|", "::"])
def test_the_separator_is_found(separator: str, tmp_path: Path, root: Path) -> None:
    path = write(tmp_path / "My Ratings.dat", separator)
    assert take(path, root) == root / "my-ratings.yaml"
    check("my-ratings", root)


@pytest.mark.parametrize("separator", ["\t", "|", ";"])
def test_quotes_enclose_fields_where_they_enclose_the_header(separator: str, tmp_path: Path, root: Path) -> None:
    lines = [("userId", "movie id", "stars", "when"), *ROWS]
    text = "".join(separator.join(f'"{field}"' for field in line) + "\n" for line in lines)
    (tmp_path / "my-ratings.txt").write_text(text)
    take(tmp_path / "my-ratings.txt", root)
    check("my-ratings", root)


def test_a_tab_may_be_given_as_it_is_typed(tmp_path: Path, root: Path) -> None:
    take(write(tmp_path / "my-ratings.tsv", "\t"), root, separator=r"\t")
    check("my-ratings", root)


def test_missing_ids_that_are_written_as_words_are_warned_of(
    tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "holes.csv").write_text("u,i\na,2\nNULL,2\nNA,3\nNA,2\n")
    import_file(tmp_path / "holes.csv", user="u", item="i", root=root)
    assert "the user of 3 rows is NA or NULL, which counts as an id" in caplog.text


def test_ids_that_differ_by_spaces_alone_are_warned_of(
    tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spaced.csv").write_text("u,i\n1,2\n1 ,2\n1,3\n")
    import_file(tmp_path / "spaced.csv", user="u", item="i", root=root)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "1 ids of 'user' differ from others by spaces alone, and count as others"
    ]


def test_other_columns_are_ignored_and_quotes_understood(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "quoted.csv"
    path.write_text('"title","userId","movie id"\n"One, ""two""","7","x, y"\n"Three","7","z"\n')
    take(path, root, time=None, rating=None)
    assert load("quoted", root=root).interactions.items.ids.tolist() == ["x, y", "z"]


def test_a_stray_quote_in_a_column_that_is_not_read_loses_no_row(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "screens.csv"
    titles = ['TV 32" black' if row in (10, 20, 90) else f"TV {row}" for row in range(100)]
    path.write_text("userId,movie id,title\n" + "".join(f"{row},m{row},{title}\n" for row, title in enumerate(titles)))
    take(path, root, time=None, rating=None)
    assert load("screens", root=root).interactions.users.ids.tolist() == list(range(100))


def test_stray_quotes_in_tab_separated_files_are_text(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "inch.tsv"
    path.write_text('userId\tmovie id\n1\t12"\n1\t7"\n')
    take(path, root, time=None, rating=None)
    assert load("inch", root=root).interactions.items.ids.tolist() == ['12"', '7"']


@pytest.mark.parametrize("packed", [False, True])
def test_json_lines(packed: bool, tmp_path: Path, root: Path) -> None:
    lines = [
        json.dumps({"stars": float(stars), "userId": int(user), "movie id": item, "when": int(when)})
        for user, item, stars, when in ROWS
    ]
    data = "\n".join(lines).encode()
    path = tmp_path / ("ratings.jsonl.gz" if packed else "ratings.jsonl")
    path.write_bytes(gzip.compress(data) if packed else data)
    take(path, root)
    check("ratings", root)


def test_the_dataset_outlives_the_original_and_moves_with_its_root(tmp_path: Path, root: Path) -> None:
    path = write(tmp_path / "ratings.csv", ",")
    take(path, root, name="mine")
    path.unlink()
    moved = root.rename(tmp_path / "elsewhere")
    check("mine", moved)
    assert str(tmp_path) not in (moved / "mine.yaml").read_text()
    assert sorted(file.name for file in (moved / "raw" / "mine").iterdir()) == ["ratings.csv"]


def test_the_card_tells_what_was_found(tmp_path: Path, root: Path) -> None:
    card = read_card(take(write(tmp_path / "ratings.csv", ","), root))
    assert (card.expected.users, card.expected.items, card.expected.interactions) == (2, 2, 3)
    assert card.default_split == "random_by_user"
    assert {"leave_last_out", "global_time", "item_cold"} <= set(card.splits)
    timeless = read_card(take(tmp_path / "ratings.csv", root, name="timeless", time=None))
    assert "leave_last_out" not in timeless.splits
    (root / "raw" / "ratings" / "ratings.csv").write_text("userId,movie id,stars,when\n1,2,3,4\n")
    with pytest.raises(DataError, match="sha256"):
        load("ratings", root=root)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["1", "10", "9"], [1, 9, 10]),
        (["01", "1", "9"], ["01", "1", "9"]),
        (["1", "a", "9"], ["1", "9", "a"]),
        (["1", "a", "-9"], ["-9", "1", "a"]),
    ],
)
def test_ids_are_numbers_only_where_nothing_is_lost(
    ids: list[str], expected: list[Any], tmp_path: Path, root: Path
) -> None:
    rows = [(user, item, "1", "1") for user in ids for item in "ab"]
    take(write(tmp_path / "ids.csv", ",", rows), root)
    assert load("ids", root=root).interactions.users.ids.tolist() == expected


def test_duplicates_need_a_policy(tmp_path: Path, root: Path) -> None:
    path = write(tmp_path / "twice.csv", ",", [*ROWS, ("7", "b", "1", "120")])
    with pytest.raises(
        DataError, match=r"twice\.csv: 1 rows repeat .* user 7, item 'b'; .*`--duplicates first` \(or last\)"
    ):
        take(path, root)
    assert not root.exists()
    take(path, root, duplicates="last")
    assert load("twice", root=root).interactions.frame["rating"].to_list() == [2, 5, 1]
    assert find("twice", root).expected.duplicates == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user": "userid"}, "no column 'userid' in the header. Did you mean 'userId'?"),
        ({"time": "wen"}, "no column 'wen' in the header. Did you mean 'when'?"),
        ({"separator": "\t"}, "no column 'userId' in the header"),
    ],
)
def test_bad_choices_are_refused_and_leave_nothing(
    changes: dict[str, Any], message: str, tmp_path: Path, root: Path
) -> None:
    path = write(tmp_path / "ratings.csv", ",")
    with pytest.raises(DataError) as error:
        take(path, root, **changes)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert not root.exists()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("8", "c", "good", "120"), "line 5: rating 'good' is not a number"),
        (("8", "c", "4", "2020-01-01"), "time '2020-01-01' is not a number; for dates, the type is date"),
        (("-1", "c", "4", "120"), "ratings.csv, line 5: user -1 is negative"),
        (("8", "", "4", "120"), "line 5: item is empty"),
        (("8", "c", "4"), "line 5: expected 4 fields, found 3"),
    ],
)
def test_bad_rows_are_refused_with_their_line(row: tuple[str, ...], message: str, tmp_path: Path, root: Path) -> None:
    with pytest.raises(DataError) as error:
        take(write(tmp_path / "ratings.csv", ",", [*ROWS, row]), root)
    assert message in str(error.value)
    assert not root.exists()


def test_other_dates_are_refused_with_what_is_expected(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("userId,movieId,timestamp\n7,b,03/27/2021\n")
    with pytest.raises(DataError, match=r"line 2: time '03/27/2021' is not a date such as 2021-03-01 10:00"):
        import_file(path, user="userId", item="movieId", time="timestamp", root=root)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_times_can_be_dates(form: str, tmp_path: Path, root: Path) -> None:
    rows = [("7", "b", "2021-03-01"), ("7", "a", "2021-02-28 23:59:59"), ("8", "a", "2021-03-01T00:00:00.5Z")]
    path = tmp_path / f"dates.{form}"
    if form == "csv":
        path.write_text("".join(",".join(row) + "\n" for row in [("userId", "movie id", "when"), *rows]))
    else:
        path.write_text(
            "\n".join(json.dumps(dict(zip(("userId", "movie id", "when"), row, strict=True))) for row in rows)
        )
    take(path, root, rating=None)
    assert load("dates", root=root).interactions.frame["time"].to_list() == [1614556800.0, 1614556799.0, 1614556800.5]
    assert find("dates", root).columns == {"time": "numeric"}


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_other_encodings_are_read_when_named(encoding: Any, tmp_path: Path, root: Path) -> None:
    path = tmp_path / "films.csv"
    path.write_bytes("userId,movie id\n1,Amélie\n2,Léon\n".encode(encoding))
    with pytest.raises(DataError, match=r"films\.csv, line 2: not valid utf-8.*`--encoding latin-1`"):
        take(path, root, time=None, rating=None)
    assert not root.exists()
    take(path, root, time=None, rating=None, encoding=encoding)
    assert load("films", root=root).interactions.items.ids.tolist() == ["Amélie", "Léon"]


def test_json_lines_in_another_encoding(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "films.jsonl"
    path.write_bytes('{"userId": 1, "movie id": "Amélie"}\n{"userId": 2, "movie id": "Léon"}'.encode("latin-1"))
    take(path, root, time=None, rating=None, encoding="latin-1")
    assert load("films", root=root).interactions.items.ids.tolist() == ["Amélie", "Léon"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": "user", "item": "item"}, "no column 'user' in the header. Known: 1193, 5, 978300760, alice."),
        ({"user": "1193", "item": "alice"}, "the first line looks like data, with '1193' as the user."),
        ({"user": "alice", "item": "1193"}, "the first line looks like data, with '1193' as the item."),
    ],
)
def test_a_file_without_a_header_is_refused(columns: dict[str, str], message: str, tmp_path: Path, root: Path) -> None:
    path = tmp_path / "bare.dat"
    path.write_text("alice::1193::5::978300760\nbob::661::3::978302109\n")
    with pytest.raises(DataError) as error:
        import_file(path, user=columns["user"], item=columns["item"], root=root)
    assert f"{path}: {message} Import needs a first line that names the columns; " in str(error.value)
    assert "write a card (see datasets/README.md)" in str(error.value)
    assert not root.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"userId": 1, "movie id": 2}]', "a JSON array; expected JSON lines"),
        (b'[\n  {"userId": 1, "movie id": 2}\n]\n', "a JSON array; expected JSON lines"),
        (b"PK\x03\x04\x14\x00\x00\x00\x08\x00\xe9\n", "not text, for it holds zero bytes"),
        (gzip.compress(b"ratings.csv\x00\x00\x00userId,movie id\n1,2\n", mtime=0), "not text, for it holds zero bytes"),
        ("userId,movie id\n1,2\n".encode("utf-16"), "not text, for it holds zero bytes"),
        (b'{"userId": 1, "movieId": 2}\n', "line 1: no key 'movie id'. Did you mean 'movieId'?"),
        (b'{\n"userId": [1]}\n', "line 1: not a JSON object on one line"),
    ],
)
def test_files_of_another_kind_are_refused(content: bytes, message: str, tmp_path: Path, root: Path) -> None:
    path = tmp_path / "ratings"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        take(path, root, time=None, rating=None)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "Import needs" not in str(error.value)
    assert "--encoding" not in str(error.value)
    assert not root.exists()


def test_a_negative_number_in_json_is_no_id_either(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "negative.jsonl"
    path.write_text('{"userId": 1, "movie id": 2}\n{"userId": 1, "movie id": -3}\n')
    with pytest.raises(DataError, match=r"negative\.jsonl, line 2: item -3 is negative"):
        take(path, root, time=None, rating=None)


def test_a_column_cannot_be_two_things(tmp_path: Path, root: Path) -> None:
    with pytest.raises(ConfigError, match="column 'when' is given for time and rating"):
        take(write(tmp_path / "ratings.csv", ","), root, rating="when")


def test_names_that_are_taken_or_wrong_are_refused(tmp_path: Path, root: Path) -> None:
    path = write(tmp_path / "ratings.csv", ",")
    card = take(path, root)
    before = card.read_bytes()
    with pytest.raises(ConfigError) as own:
        take(path, root)
    assert f"'ratings' already; choose another one with --name, or delete {card} and {root / 'raw' / 'ratings'}" in str(
        own.value
    )
    with pytest.raises(ConfigError, match=r"'gowalla' already; choose another one with --name$"):
        take(path, root, name="gowalla")
    with pytest.raises(ConfigError, match="expected lower-case letters"):
        take(path, root, name="../up")
    assert card.read_bytes() == before


def test_a_full_disk_leaves_no_half_of_a_file(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(DataError, match=r"cannot write to .*root: No space left"):
        take(write(tmp_path / "ratings.csv", ","), root)
    assert not [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_times_in_nanoseconds_keep_their_order(kind: str, tmp_path: Path, root: Path) -> None:
    times = {item: 1700000000000000000 + more for item, more in (("a", 2), ("b", 0), ("c", 1))}  # one float64
    if kind == "csv":
        path = write(tmp_path / "nano.csv", ",", [("7", item, "1", str(time)) for item, time in times.items()])
    else:
        lines = [{"userId": 7, "movie id": item, "stars": 1, "when": time} for item, time in times.items()]
        path = tmp_path / "nano.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)))
    take(path, root)
    interactions = load("nano", root=root).interactions
    assert interactions.frame["time"].to_list() == list(times.values())
    split = leave_last_out(interactions, np.random.default_rng(0))
    assert [part.items.ids[part.item_indices].tolist() for part in (split.train, split.validation, split.test)] == [
        ["b"],
        ["c"],
        ["a"],
    ]


def test_times_may_begin_without_a_fraction(tmp_path: Path, root: Path) -> None:
    lines = [{"userId": 7, "movie id": item, "stars": 1, "when": time} for item, time in (("a", 1), ("b", 1.5))]
    path = tmp_path / "halves.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    take(path, root)
    assert load("halves", root=root).interactions.frame["time"].to_list() == [1.0, 1.5]


def test_a_backslash_in_the_name_of_a_file_is_refused(tmp_path: Path, root: Path) -> None:
    with pytest.raises(ConfigError, match="whose name has a backslash; rename it"):
        take(write(tmp_path / "a\\b.csv", ","), root)
