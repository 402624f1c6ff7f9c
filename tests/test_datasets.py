"""Cards, loading, the cache, and the real datasets."""

from __future__ import annotations

import copy
import errno
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from recgraph.cli.data import markdown_table
from recgraph.data import cards, datasets
from recgraph.data.datasets import info, load
from recgraph.errors import ConfigError, DataError

TRAIN = "1,10,3.5\n1,11,1\n2,10,5\n2,12,4\n3,11,2\n3,12,2\n"
TEST = "1,12,2\n3,10,5\n"
ITEMS = "item,title\n12,Twelve\n10,Ten\n"
COLUMNS = {"user": "int", "item": "int", "rating": "float"}
CARD: dict[str, Any] = {
    "name": "tiny",
    "title": "Tiny",
    "source": "https://example.org",
    "licence": "none stated",
    "forms": {
        "only": {
            "files": {"train.csv": {}, "test.csv": {}, "items.csv": {}},
            "interactions": [
                {"file": file, "part": part, "read": {"format": "csv", "header": False, "columns": dict(COLUMNS)}}
                for file, part in [("train.csv", "train"), ("test.csv", "test")]
            ],
            "features": [
                {
                    "file": "items.csv",
                    "read": {"format": "csv", "columns": {"item": "int", "title": "str"}},
                    "features": {"title": {"kind": "text"}},
                }
            ],
        }
    },
    "splits": {"official": {"validation": 0.5}, "random_by_user": {"ratios": [1, 0, 1]}},
    "expected": {"users": 3, "items": 3, "interactions": 8, "train": 6, "test": 2},
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with the dataset `tiny`."""
    monkeypatch.delenv("RECGRAPH_MIRROR", raising=False)
    raw = tmp_path / "raw" / "tiny"
    raw.mkdir(parents=True)
    (raw / "train.csv").write_text(TRAIN)
    (raw / "test.csv").write_text(TEST)
    (raw / "items.csv").write_text(ITEMS)
    write_card(tmp_path)
    return tmp_path


def write_card(root: Path, **changes: Any) -> None:
    (root / "tiny.yaml").write_text(yaml.safe_dump({**CARD, **changes}, sort_keys=False))


def expected(**changes: Any) -> dict[str, Any]:
    return {**CARD["expected"], **changes}


def test_a_card_becomes_a_dataset(root: Path) -> None:
    dataset = load("tiny", root=root)
    assert (dataset.card.title, dataset.form) == ("Tiny", "only")
    assert dataset.interactions.frame.to_dict(as_series=False) == {
        "user": [0, 0, 1, 1, 2, 2, 0, 2],
        "item": [0, 1, 0, 2, 1, 2, 2, 0],
        "rating": [3.5, 1, 5, 4, 2, 2, 2, 5],
        "part": ["train"] * 6 + ["test"] * 2,
    }
    assert [dataset.features.title(item) for item in range(3)] == ["Ten", "11", "Twelve"]


def test_the_second_load_is_from_the_cache_and_equal(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = root.rename(root.with_name("data [of mine]"))  # as a pattern of polars it would not match itself
    first = load("tiny", root=root)
    monkeypatch.setattr(datasets, "build", lambda *_: pytest.fail("prepared again"))
    second = load("tiny", root=root)
    assert second.interactions.frame.equals(first.interactions.frame)
    assert second.interactions.frame.schema == first.interactions.frame.schema
    assert second.interactions.fingerprint == first.interactions.fingerprint
    for side in ("users", "items"):
        one, other = getattr(first.features, side), getattr(second.features, side)
        assert (other.frame.to_dicts(), other.kinds) == (one.frame.to_dicts(), one.kinds)
    assert first.folder == second.folder


def test_the_cache_follows_files_and_card(root: Path) -> None:
    first = load("tiny", root=root)
    (root / "raw" / "tiny" / "train.csv").write_text(TRAIN.replace("3.5", "2.5"))
    second = load("tiny", root=root)
    assert second.interactions.frame["rating"][0] == 2.5
    write_card(root, preparation={"threshold": 2}, expected=expected(interactions=7, train=5))
    third = load("tiny", root=root)
    assert len(third.interactions) == 7
    assert len({first.folder, second.folder, third.folder}) == 3


@pytest.mark.parametrize(
    "name", ["interactions.parquet", "users.parquet", "items.parquet", "candidates.parquet", "hashes.json"]
)
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_a_damaged_cache_is_made_again(root: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    first = load("tiny", root=root)
    path = first.folder / name
    good = path.read_bytes()
    middle = len(good) // 2
    bad = {"cut": good[:middle], "flip": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]}
    path.unlink()
    if damage != "gone":
        path.write_bytes(bad[damage])
    again = load("tiny", root=root)
    assert again.interactions.fingerprint == first.interactions.fingerprint
    unfinished = (name, damage) == ("hashes.json", "gone")  # as a killed process leaves it
    assert (f"prepared data in {first.folder} is damaged" in caplog.text) != unfinished
    assert path.read_bytes() == good


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4])
def test_a_full_disk_is_an_error_and_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
    write, calls = Path.write_bytes, []

    def full(path: Path, data: Any) -> int:
        calls.append(path)
        if len(calls) < fails_at:
            return write(path, data)
        write(path, bytes(data)[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(DataError, match=r"cannot write .*cache.*: No space left on device; make room"):
            load("tiny", root=root)
    assert len(calls) == fails_at
    assert list((root / "cache").rglob("*")) == []
    assert len(load("tiny", root=root).interactions) == 8


def test_a_folder_without_permission_is_an_error_that_asks_for_another(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path, data: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", denied)
    with pytest.raises(DataError, match="Permission denied; name another folder in RECGRAPH_DATA"):
        load("tiny", root=root)


def test_counts_that_differ_from_the_card_are_refused_all_at_once(root: Path) -> None:
    write_card(root, expected=expected(users=4, train=7, fingerprint="f00"))
    with pytest.raises(DataError) as error:
        load("tiny", root=root)
    message = str(error.value)
    assert f"dataset tiny in {root / 'raw' / 'tiny'} is not what its card says" in message
    for part in ("3 users, expected 4", "6 train, expected 7", "fingerprint, expected f00"):
        assert part in message
    assert not list(root.glob("cache/*"))


def test_users_and_items_only_in_test_must_be_announced(root: Path) -> None:
    (root / "raw" / "tiny" / "test.csv").write_text(TEST + "4,13,1\n4,14,1\n")
    counts = expected(users=4, items=5, interactions=10, test=4)
    write_card(root, expected=counts)
    with pytest.raises(DataError, match="1 test_only_users, expected 0; 2 test_only_items, expected 0"):
        load("tiny", root=root)
    write_card(root, expected={**counts, "test_only_users": 1, "test_only_items": 2})
    assert load("tiny", root=root).interactions.num_items == 5  # the vocabulary covers all parts


def test_a_test_pair_that_is_in_train_is_refused(root: Path) -> None:
    (root / "raw" / "tiny" / "test.csv").write_text(TEST + "2,12,4\n")
    write_card(root, preparation={"duplicates": "first"}, expected=expected(duplicates=1))
    with pytest.raises(DataError, match=r"1 pairs are in more than one part .* user 2, item 12"):
        load("tiny", root=root)


def test_duplicates_are_counted_and_must_be_announced(root: Path) -> None:
    (root / "raw" / "tiny" / "train.csv").write_text(TRAIN + "2,12,1\n")
    with pytest.raises(DataError, match=r"dataset tiny in .*1 rows repeat"):
        load("tiny", root=root)
    write_card(root, preparation={"duplicates": "last"})
    with pytest.raises(DataError, match="1 duplicates, expected 0"):
        load("tiny", root=root)
    write_card(root, preparation={"duplicates": "last"}, expected=expected(duplicates=1))
    assert load("tiny", root=root).interactions.frame["rating"].to_list() == [3.5, 1, 5, 2, 2, 1, 2, 5]


def test_splits_take_the_options_of_the_card_unless_given(root: Path) -> None:
    dataset = load("tiny", root=root)
    assert [len(part) for part in parts(dataset.split(seed=0))] == [3, 3, 2]
    assert [len(part) for part in parts(dataset.split("random_by_user", seed=0))] == [5, 0, 3]
    given = {"name": "official", "validation": 0, "carve": "random"}
    assert [len(part) for part in parts(dataset.split(given, seed=0))] == [6, 0, 2]
    assert [len(part) for part in parts(dataset.split("item_cold", seed=0))] == pytest.approx([3, 3, 2], abs=1)
    with pytest.raises(ConfigError, match=r"no split 'ofical'. Did you mean 'official'\?"):
        dataset.split("ofical", seed=0)
    with pytest.raises(ConfigError, match=r"split\.carv: .*Did you mean 'carve'\?"):
        dataset.split({"name": "official", "carv": "tail"}, seed=0)
    with pytest.raises(DataError, match="dataset tiny: split global_time: the dataset has no `time` column"):
        dataset.split("global_time", seed=0)
    with pytest.raises(ConfigError, match=r"split\.ratios\.2: Input should be greater than 0, got 0"):
        dataset.split({"name": "random_by_user", "ratios": [1, 1, 0]}, seed=0)


def parts(split: Any) -> list[Any]:
    return [split.train, split.validation, split.test]


def test_info_sums_up(root: Path) -> None:
    write_card(root, paper="Somebody, 2020")
    found = info("tiny", root=root)
    dataset = load("tiny", root=root)
    assert found["counts"]["test_only_items"] == 0
    assert found["density"] == 0.888889
    assert (found["paper"], found["features"]) == ("Somebody, 2020", {"item": {"title": "text"}})
    assert found["rows per user"] == {"min": 2, "25%": 2.5, "median": 3, "75%": 3, "max": 3}
    assert found["split"]["fingerprint"] == dataset.split(seed=0).fingerprint
    assert [found["split"][name] for name in ("name", "train", "validation", "test")] == ["official", 3, 3, 2]
    assert (found["fingerprint"], found["cache"]) == (dataset.interactions.fingerprint, str(dataset.folder))


def test_unknown_names_get_the_nearest(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"no dataset 'ml-100'. Did you mean 'ml-100k'\?"):
        load("ml-100", root=root)
    assert {"tiny", "gowalla"} <= set(cards.names(root))


def test_own_cards_come_before_shipped_ones(root: Path) -> None:
    (root / "gowalla.yaml").write_text(yaml.safe_dump({**CARD, "name": "gowalla", "title": "Mine"}, sort_keys=False))
    assert cards.find("gowalla", root).title == "Mine"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licens": "?"}, "tiny.yaml: licens: Extra inputs are not permitted"),
        ({"expected": {"users": 3, "items": 3}}, "expected.interactions: Field required"),
        ({"expected": expected(users="three")}, "expected.users: Input should be a valid integer"),
        ({"name": "teeny"}, "the name is 'teeny', but the file is called tiny.yaml"),
        ({"splits": {"offical": {}}}, "no split 'offical'. Did you mean 'official'?"),
        ({"splits": {"official": {"carve": "head"}}}, "splits.official.carve: "),
        ({"preparation": {"duplicates": "any"}}, "preparation.duplicates: "),
    ],
)
def test_wrong_cards_are_refused_with_the_path(root: Path, changes: dict[str, Any], message: str) -> None:
    write_card(root, **changes)
    with pytest.raises(DataError) as error:
        load("tiny", root=root)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda form: form["interactions"][0].update(file="tain.csv"), "Did you mean 'train.csv'?"),
        (lambda form: form["interactions"][0].pop("part"), "give `part` for all files or for none"),
        (lambda form: form["interactions"][0]["read"]["columns"].update(rating="int"), "the same columns"),
        (lambda form: form["features"].append(form["features"][0]), "a name is given twice"),
        (
            lambda form: form["interactions"][1]["read"]["columns"].update(rating="float?"),
            "interactions.1.read: Value error, columns.rating: 'float?'; every interaction has one, so expected 'float'",
        ),
    ],
)
def test_forms_must_be_consistent(root: Path, edit: Any, message: str) -> None:
    form = copy.deepcopy(CARD["forms"]["only"])
    edit(form)
    write_card(root, forms={"only": form})
    with pytest.raises(DataError) as error:
        cards.find("tiny", root)
    assert message in str(error.value)


def test_what_is_not_yaml_is_refused(root: Path) -> None:
    (root / "tiny.yaml").write_text("name: [")
    with pytest.raises(DataError, match=r"tiny\.yaml: not YAML"):
        cards.find("tiny", root)
    (root / "tiny.yaml").write_bytes(b"name: \xe9")
    with pytest.raises(DataError, match=r"tiny\.yaml: not valid utf-8"):
        cards.find("tiny", root)


def test_a_wrong_card_is_left_out_of_the_list_with_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_card(root, licens="?")
    (root / "other.yaml").write_text(yaml.safe_dump({**CARD, "name": "other"}, sort_keys=False))
    (root / "folder.yaml").mkdir()
    listed = [card.name for card in cards.every(root)]
    assert listed == [name for name in cards.names(root) if name not in ("tiny", "folder")]
    assert {"other", "gowalla"} <= set(listed)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert f"left out the dataset tiny: {root / 'tiny.yaml'}: licens: Extra inputs" in caplog.text
    assert f"left out the dataset folder: {root / 'folder.yaml'}: Is a directory" in caplog.text
    with pytest.raises(DataError, match="licens"):
        cards.find("tiny", root)


def test_the_data_root_is_from_the_environment_or_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECGRAPH_DATA", str(tmp_path / "here"))
    assert cards.data_root() == tmp_path / "here"
    monkeypatch.delenv("RECGRAPH_DATA")
    checkout = Path(__file__).parents[1] / "datasets"
    assert cards.data_root() == checkout
    monkeypatch.setattr(cards, "_checkout", lambda: None)  # as when installed
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cards.data_root() == tmp_path / ".cache" / "recgraph"


def test_the_table_in_the_readme_is_current() -> None:
    readme = (Path(__file__).parents[1] / "datasets" / "README.md").read_text(encoding="utf-8")
    table = re.search(r"<!-- Generated: .*? -->\n(.*?)\n<!-- End", readme, re.DOTALL)
    assert table, "the markers are gone"
    assert table[1] == markdown_table(), "recgraph data list --markdown prints the current table"


MIRRORED = [name for name in cards.names() if name not in ("amazon-book", "yelp2018")]


@pytest.mark.parametrize("name", MIRRORED)
def test_real_data_has_the_counts_of_its_card(name: str, mirror: Path, tmp_path: Path) -> None:
    dataset = load(name, root=tmp_path)
    again = load(name, root=tmp_path)
    assert again.interactions.fingerprint == dataset.interactions.fingerprint
    split = dataset.split(seed=0)
    assert sum(map(len, parts(split))) == dataset.card.expected.interactions
    for frame, kinds in ((side.frame, side.kinds) for side in (dataset.features.users, dataset.features.items)):
        for feature in kinds:
            filled = frame[feature].list.len() > 0 if kinds[feature] == "multi_hot" else frame[feature].is_not_null()
            # A fifth of the articles have no tags; 11,714 lines of 16,979 in citations.dat name another article.
            least = {"tags": 0.75, "citations": 0.6898}.get(feature, 0.99)
            assert filled.mean() > least, feature


def test_ncf_has_a_hundred_candidates_for_each_user_but_where_a_negative_is_the_test_item(
    mirror: Path, tmp_path: Path
) -> None:
    split = load("ncf-ml-1m", root=tmp_path).split(seed=0)
    assert [len(part) for part in parts(split)] == [988_129, 6_040, 6_040]
    counts = np.bincount(np.diff(split.candidates.indptr))
    assert {size: number for size, number in enumerate(counts) if number} == {99: 156, 100: 5_884}
    test = split.test.csr()
    assert split.candidates.multiply(test).nnz == 6_040
    assert split.candidates.multiply(split.train.csr() + split.validation.csr()).nnz == 0
    first = (mirror / "ml-1m/ncf/ml-1m.test.negative").read_text().split("\n")[0].split("\t")[1:]
    assert set(split.candidates[[0]].indices) == {25, *map(int, first)}  # ids are indices here
    # Validation is the latest row by time, which the last row in the file is for 113 users.
    train, held = split.train.frame, split.validation.frame.sort("user")
    latest = train.group_by("user").agg(pl.col("time").max()).sort("user")["time"]
    assert (held["time"] >= latest).all()
    assert (split.test.frame.sort("user")["time"] >= held["time"]).all()


def test_published_splits_of_citeulike_are_of_its_rows_and_withhold_articles(mirror: Path, tmp_path: Path) -> None:
    def tags(dataset: datasets.Dataset, first: int) -> dict[int, list[int]]:
        rows = dataset.features.items.frame.select("id", "tags").iter_rows()
        return {item - first: sorted(own) for item, own in rows}

    lines = (mirror / "citeulike-a" / "users.dat").read_text().splitlines()
    rows = {(user, int(item)) for user, line in enumerate(lines) for item in line.split()[1:]}
    whole = tags(load("citeulike-a", root=tmp_path), 0)
    for name, first, cold in (("aldi", 0, [1698, 1698]), ("dropoutnet", 1, [1358, 3396])):
        dataset = load(f"citeulike-a-{name}", root=tmp_path)
        table, made = dataset.interactions, dataset.split(seed=0)
        users, items = table.users.decode(table.user_indices), table.items.decode(table.item_indices)
        assert set(zip((users - first).tolist(), (items - first).tolist(), strict=True)) == rows
        train, *held = (set(part.item_indices.tolist()) for part in parts(made))
        new = [some - train for some in held]
        assert [len(some) for some in new] == cold
        assert not new[0] & new[1]
        assert tags(dataset, first) == whole


def test_gowalla_validates_on_the_tail_of_each_list(mirror: Path, tmp_path: Path) -> None:
    split = load("gowalla", root=tmp_path).split(seed=0)
    tails = {}
    for line in (mirror / "gowalla" / "train.txt").read_text().splitlines():
        user, *items = map(int, line.split())
        tails[user] = items[-max(1, len(items) // 10) :]
    held = split.validation.frame.group_by("user", maintain_order=True).agg("item")  # ids are indices here
    assert dict(held.iter_rows()) == tails
    assert len(split.test) == 217_242


@pytest.fixture
def from_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> datasets.Dataset:
    """ML-100K as the package index has it."""
    card = cards.find("ml-100k", tmp_path)
    only = card.model_copy(update={"forms": {"recbole": card.forms["recbole"]}})
    with monkeypatch.context() as patch:
        patch.delenv("RECGRAPH_MIRROR", raising=False)
        patch.setattr(datasets, "find", lambda *_: only)
        return load("ml-100k", root=tmp_path / "wheel")


@pytest.mark.network
def test_ml_100k_from_the_package_index_is_the_pinned_table(from_wheel: datasets.Dataset) -> None:
    assert from_wheel.form == "recbole"
    assert from_wheel.interactions.fingerprint == from_wheel.card.expected.fingerprint
    assert from_wheel.features.title(0) == "Toy Story"


@pytest.mark.network
def test_both_sources_of_ml_100k_give_the_same_table(
    mirror: Path, from_wheel: datasets.Dataset, tmp_path: Path
) -> None:
    grouplens = load("ml-100k", root=tmp_path)
    assert grouplens.form == "grouplens"
    assert from_wheel.interactions.frame.equals(grouplens.interactions.frame)
    assert from_wheel.interactions.fingerprint == grouplens.interactions.fingerprint
    assert from_wheel.features.users.frame.equals(grouplens.features.users.frame)
    films, others = grouplens.features.items.frame, from_wheel.features.items.frame
    assert films["genres"].equals(others["genres"])
    differ = (films["title"] != others["title"]) | films["year"].ne_missing(others["year"])
    assert films.filter(differ)["id"].to_list() == [267, 1412]  # as the card says


@pytest.mark.slow
def test_ten_million_rows_load_from_the_cache_in_seconds(root: Path) -> None:
    import time

    generator = np.random.default_rng(0)
    users, items = np.divmod(generator.choice(300_000 * 1000, 10_000_000, replace=False), 1000)
    frame = pl.DataFrame({"user": users, "item": items, "rating": generator.integers(1, 6, len(users))})
    frame.write_csv(root / "raw" / "tiny" / "train.csv", include_header=False)
    form = CARD["forms"]["only"]
    form = {**form, "interactions": [{**form["interactions"][0], "part": None}], "features": []}
    write_card(root, forms={"only": form}, expected={"users": 300_000, "items": 1000, "interactions": 10_000_000})
    load("tiny", root=root)
    start = time.process_time()
    load("tiny", root=root)
    assert time.process_time() - start < 3  # 0.8, where reading the text takes 8.5
