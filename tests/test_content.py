"""Text, tags, numbers and vectors as matrices: equal to scikit-learn's, blind to cold rows, masked where empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from recgraph.data.content import check_columns, content_of, pack, unpack
from recgraph.data.features import Attributes, Features
from recgraph.data.modalities import ModalitySettings, fit_modality
from recgraph.errors import ConfigError, DataError
from recgraph.types import Modality

PLOTS = [
    "A toy cowboy is jealous of a space ranger",
    "Space ranger and toy cowboy find a space pig",
    "Two old men fish and quarrel about a woman",
    "A woman and two men quarrel over fish and love",
    "Love in space, a ranger's toy story of love",
    "",
    None,
    "zzz qqq",
]
KNOWN = np.array([True] * 5 + [False] * 3)
FRAME = pl.DataFrame(
    {
        "id": range(8),
        "plot": PLOTS,
        "genres": [
            ["Animation", "Comedy"],
            ["Animation"],
            ["Comedy"],
            ["Comedy", "Romance"],
            ["Romance"],
            [],
            [],
            ["New"],
        ],
        "year": [1990.0, 1995.0, None, 1992.0, 1993.0, 2000.0, None, 1990.0],
        "length": [90.0, 90.0, 90.0, 90.0, 90.0, 90.0, None, 91.0],
        "vector": [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], None, [2.0, 2.0], [3.0, 0.0], None, [0.0, -1.0]],
    }
)
KINDS: dict[str, Any] = {
    "plot": "text",
    "genres": "multi_hot",
    "year": "numeric",
    "length": "numeric",
    "vector": "vector",
}


def made(columns: list[str], frame: pl.DataFrame = FRAME, known: np.ndarray = KNOWN, **options: Any) -> Modality:
    settings = ModalitySettings(columns=columns, **options)
    return fit_modality(settings, frame, KINDS, known, "content.x").transform(frame, "content.x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"file": "v.npy", "dim": 64}, "`dim` does nothing with vectors of a `file`"),
        ({"file": "v.npy", "min_count": 5}, "`min_count` does nothing with vectors"),
        ({"columns": ["kind"], "ids": True, "max_share": 0.9}, "`max_share` does nothing with `ids`"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModalitySettings(**options)


def test_text_equals_scikit_learn() -> None:
    theirs = TfidfVectorizer(min_df=2, max_df=0.8, sublinear_tf=True).fit([str(p) for p in PLOTS[:5]])
    weighted = theirs.transform([p or "" for p in PLOTS])
    svd = TruncatedSVD(3, random_state=0).fit(weighted[:5])
    expected = normalize(svd.transform(weighted))
    modality = made(["plot"], dim=3, max_share=0.8)
    np.testing.assert_allclose(modality.values.numpy(), expected, atol=1e-5)
    assert modality.present.tolist() == [True] * 5 + [False] * 3
    whole = made(["plot"], max_share=0.8)  # fewer rows than 300: a dimension less than there are
    assert whole.values.shape == (8, 4)


def test_a_stop_word_is_one_of_known_rows() -> None:
    settings = ModalitySettings(columns=["plot"], max_share=0.5)
    terms = fit_modality(settings, FRAME, KINDS, KNOWN, "content.x").terms
    assert {"cowboy", "fish"} <= set(terms)  # in 2 of 5
    assert not {"toy", "space"} & set(terms)  # in 3 of 5, which would be few among all 8


def test_tags_equal_a_loop() -> None:
    modality = made(["genres"], min_count=1)
    names = ["Animation", "Comedy", "Romance"]
    for row, tags in enumerate(FRAME["genres"].to_list()):
        counts = [sum(name in other for other in FRAME["genres"].to_list()[:5]) for name in names]
        vector = np.array([(name in tags) * (np.log(6 / (1 + n)) + 1) for name, n in zip(names, counts, strict=True)])
        expected = vector / max(np.linalg.norm(vector), 1e-9)
        np.testing.assert_allclose(modality.values[row].numpy(), expected, atol=1e-6)
    assert modality.present.tolist() == [True] * 5 + [False] * 3


def test_numbers_are_standardised_and_what_is_missing_is_average() -> None:
    modality = made(["year", "length"])
    years = np.array([1990, 1995, 1992, 1993.0])
    expected = (years - years.mean()) / years.std()
    torch.testing.assert_close(modality.values[[0, 1, 3, 4], 0], torch.from_numpy(expected).float())
    assert modality.values[2].tolist() == [0, 0]  # of a constant column, too, which is divided by 1
    assert modality.values[7, 1] == 1
    assert modality.present.tolist() == [True] * 6 + [False, True]


def test_a_constant_that_rounding_spreads_is_divided_by_one() -> None:
    frame = pl.DataFrame({"id": range(7), "year": [0.1] * 6 + [0.3]})
    known = np.array([True] * 6 + [False])
    assert np.std([0.1] * 6) > 0
    modality = made(["year"], frame, known)
    torch.testing.assert_close(modality.values[:, 0], torch.tensor([0.0] * 6 + [0.2]))


def test_times_seconds_apart_keep_their_places() -> None:
    times = np.array([1_700_000_000 + 10 * step for step in range(4)], np.float64)
    features = Features(
        Attributes(pl.DataFrame({"id": [0]})), Attributes(pl.DataFrame({"id": range(4), "year": times}), KINDS)
    )
    settings = {"time": ModalitySettings(columns=["year"])}
    known = {"known_users": np.array([True]), "known_items": np.array([True] * 4)}
    content, pipeline = content_of(settings, features, **known, root=Path())
    expected = torch.from_numpy((times - times.mean()) / times.std()).float()
    again = unpack(*pack(pipeline))["time"].transform(features.items.frame, "x")
    for values in (content.items["time"].values, again.values):
        torch.testing.assert_close(values[:, 0], expected)


def test_vectors_are_centred_on_known_rows_and_zeros_are_masked() -> None:
    modality = made(["vector"])
    assert modality.present.tolist() == [True, True, False, False, True, True, False, True]
    centre = np.array([[1, 0], [0, 1], [2, 2]]).mean(0)
    expected = normalize(np.array([[3, 0]]) - centre)
    np.testing.assert_allclose(modality.values[5].numpy(), expected[0], atol=1e-6)
    assert modality.values[2].tolist() == [0, 0]


def test_what_cold_rows_hold_changes_nothing_for_the_others() -> None:
    other = FRAME.with_columns(
        plot=pl.Series([*PLOTS[:5], "toy toy toy toy", "woman in love", "cowboy"]),
        year=pl.Series([*FRAME["year"][:5], 1.0, 2.0, 3.0]),
        vector=pl.Series([*FRAME["vector"].to_list()[:5], [9.0, 9.0], [9.0, 9.0], [9.0, 9.0]]),
        genres=pl.Series([*FRAME["genres"].to_list()[:5], ["Comedy"], ["Comedy"], ["Comedy"]]),
    )
    for columns in (["plot"], ["genres"], ["year"], ["vector"]):
        one, two = made(columns, dim=2), made(columns, other, dim=2)
        assert torch.equal(one.values[:5], two.values[:5])
        assert not torch.equal(one.values[5:], two.values[5:])


@pytest.mark.parametrize(
    "text", ["Привет мир кино", "मेरी प्यारी बिंदु", "الفيلم الجديد", "千と千尋の神隠し", "Ταξίδι στο χρόνο"]
)
def test_other_scripts_have_words_too(text: str) -> None:
    frame = pl.DataFrame({"id": [0, 1, 2], "plot": [text, text.split()[0], "plain words in English"]})
    modality = made(["plot"], frame, np.array([True, True, True]), min_count=1, max_share=1.0, dim=50)
    assert modality.present.all()
    cosine = modality.values @ modality.values.T
    assert cosine[0, 1] > 0.5  # a part of the first in the second
    assert cosine[0, 2] < 0.1


def test_a_text_of_emoji_alone_has_no_words_and_is_masked() -> None:
    frame = pl.DataFrame({"id": [0, 1, 2, 3], "plot": ["🎬 toy", "toy 🎬🎬", "🎬", "👩‍👩‍👧 ❤️"]})
    modality = made(["plot"], frame, np.array([True] * 4), min_count=1, max_share=1.0)
    assert modality.present.tolist() == [True, True, False, False]
    assert not modality.values[2:].any()


def test_a_pipeline_survives_being_packed() -> None:
    settings = {
        "text": ModalitySettings(columns=["plot"], dim=3),
        "tags": ModalitySettings(columns=["genres"]),
        "numbers": ModalitySettings(columns=["year"]),
        "vectors": ModalitySettings(columns=["vector"]),
    }
    features = Features(Attributes(pl.DataFrame({"id": [0]})), Attributes(FRAME, KINDS))
    content, pipeline = content_of(settings, features, known_users=np.array([True]), known_items=KNOWN, root=Path())
    again = unpack(*pack(pipeline))
    for name, one in again.items():
        values, present = one.transform(FRAME, name)
        assert torch.equal(values, content.items[name].values)
        assert torch.equal(present, content.items[name].present)
        assert one.width == values.shape[1]
    assert not content.users


def test_one_row_by_itself_gets_the_vector_it_got_among_all() -> None:
    settings = ModalitySettings(columns=["plot"], dim=3)
    fitted = fit_modality(settings, FRAME, KINDS, KNOWN, "content.x")
    torch.testing.assert_close(fitted.transform(FRAME[1:2], "x").values[0], fitted.transform(FRAME, "x").values[1])


def test_tags_of_a_csv_are_split() -> None:
    fitted = fit_modality(ModalitySettings(columns=["genres"]), FRAME, KINDS, KNOWN, "content.x")
    row = pl.DataFrame({"id": [9], "genres": ["Animation|Comedy"]})
    torch.testing.assert_close(fitted.transform(row, "x").values[0], fitted.transform(FRAME, "x").values[0])


def replaced(**columns: list[Any]) -> pl.DataFrame:
    return FRAME.with_columns(pl.Series(name, values, strict=False) for name, values in columns.items())


@pytest.mark.parametrize(
    ("columns", "frame", "message"),
    [
        (
            ["year"],
            replaced(year=[float("nan"), *[1.0] * 7]),
            "content.x: column 'year': the row of id 0 is not finite",
        ),
        (["year"], replaced(year=["x"] * 8), "column 'year': expected numbers, got String"),
        (
            ["year"],
            replaced(year=[1.0, 1e300, *[1.0] * 6]),
            "column 'year': the row of id 1 is beyond what is computed",
        ),
        (["vector"], replaced(vector=[[1.0, 2.0], [1.0], *[[1.0, 2.0]] * 6]), "the row of id 1 is not 2 numbers long"),
        (["vector"], replaced(vector=[[1.0], *[[1.0, 2.0]] * 7]), "the row of id 0 is not 2 numbers long"),
        (["vector"], replaced(vector=[[], *[[1.0, 2.0]] * 7]), "the row of id 0 is not 2 numbers long"),
        (["vector"], replaced(vector=[*[[1.0, 2.0]] * 7, [1e200, 0.0]]), "the row of id 7 holds a number beyond what"),
        (
            ["vector"],
            replaced(vector=[[1.0, float("inf")], *[[1.0, 2.0]] * 7]),
            "the row of id 0 holds a number that is",
        ),
        (["vector"], replaced(vector=[None] * 8), "holds no vector"),
        (["plot"], replaced(plot=[3] * 8), "column 'plot': expected text, got Int64"),
        (
            ["plot"],
            replaced(plot=["each", "its", "own", "word", "only", "in", "this", "row"]),
            "no term of plot is in at",
        ),
        (["year"], replaced(year=[None] * 5 + [1.0] * 3), "has no value in any row with training"),
    ],
)
def test_bad_values_are_named(columns: list[str], frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        made(columns, frame)


def test_a_vector_of_another_width_later_is_refused() -> None:
    fitted = fit_modality(ModalitySettings(columns=["vector"]), FRAME, KINDS, KNOWN, "content.x")
    with pytest.raises(DataError, match="the row of id 5 is not 2 numbers long"):
        fitted.transform(pl.DataFrame({"id": [5], "vector": [[1.0, 2.0, 3.0]]}), "content.x")
    with pytest.raises(ConfigError, match="no column 'vector'"):
        fitted.transform(pl.DataFrame({"id": [5], "vektor": [[1.0, 2.0]]}), "content.x")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["plott"], "content.x.columns: no feature 'plott' of items in this dataset. Did you mean 'plot'?"),
        (["plot", "year"], "can be treated alike, got plot .text., year .numeric."),
    ],
)
def test_bad_entries_are_explained(columns: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_columns({"x": ModalitySettings(columns=columns)}, {"item": KINDS, "user": {}})


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("id", "a.parquet", "content.id: vectors from a file are in a column of this name"),
        ("x", "films.csv", "content.x.file: expected a file that ends in .parquet or .npy, got 'films.csv'"),
        ("x", "films", "content.x.file: expected a file that ends in .parquet"),
    ],
)
def test_a_file_has_a_place_and_a_kind(tmp_path: Path, name: str, file: str, message: str) -> None:
    pl.DataFrame({"id": range(8), "vector": [[1.0]] * 8}).write_parquet((tmp_path / file).with_suffix(".parquet"))
    settings = {name: ModalitySettings(file=file)}
    with pytest.raises(ConfigError, match=message):
        check_columns(settings, {"item": KINDS, "user": {}})
    features = Features(Attributes(pl.DataFrame({"id": [0]})), Attributes(FRAME, KINDS))
    with pytest.raises(ConfigError, match=message):
        content_of(settings, features, known_users=np.array([True]), known_items=KNOWN, root=tmp_path)


def of_file(folder: Path, kind: str, vectors: list[list[float]]) -> Modality:
    """What a file of the vectors of items 0, 1, ... is made into."""
    ids = pl.DataFrame({"id": range(len(vectors))})
    if kind == "npy":
        np.save(folder / "a.npy", np.array(vectors, np.float32))
        ids.write_parquet(folder / "a.parquet")
    else:
        ids.with_columns(vector=pl.Series(vectors)).write_parquet(folder / "a.parquet")
    features = Features(Attributes(pl.DataFrame({"id": [0]})), Attributes(FRAME, KINDS))
    known = {"known_users": np.array([True]), "known_items": KNOWN}
    settings = {"x": ModalitySettings(file=f"a.{kind}")}
    return content_of(settings, features, **known, root=folder)[0].items["x"]


@pytest.mark.parametrize("kind", ["parquet", "npy"])
def test_bad_vectors_of_a_file_are_masked_or_named(tmp_path: Path, kind: str) -> None:
    rows = [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [2.0, 2.0], [0.0, 1.0], [0.0, 0.0]]
    modality = of_file(tmp_path, kind, rows)
    # Zeros say nothing, of a known item as of a cold one; items 6 and 7 are not in the file.
    assert modality.present.tolist() == [True, True, False, True, True, False, False, False]
    assert not modality.values[~modality.present].any()
    assert modality.values.isfinite().all()
    with pytest.raises(DataError, match=r"content\.x: column .x.: the row of id 1 holds a number that is missing"):
        of_file(tmp_path, kind, [rows[0], [float("nan"), 1.0], *rows[2:]])
    with pytest.raises(DataError, match=r"content\.x: column .x.: the row of id 5 holds a number that is missing"):
        of_file(tmp_path, kind, [*rows[:5], [float("nan"), 1.0]])  # of a cold item


def test_a_vector_of_a_file_of_another_width_is_named(tmp_path: Path) -> None:
    for row in (0, 3, 5):
        vectors = [[1.0, float(number)] for number in range(6)]
        vectors[row] = [1.0, 2.0, 3.0]
        with pytest.raises(DataError, match=f"content.x: column 'x': the row of id {row} is not 2 numbers long"):
            of_file(tmp_path, "parquet", vectors)


def test_an_entry_has_one_source() -> None:
    for given in ({}, {"columns": ["a"], "file": "b"}):
        with pytest.raises(ValueError, match="either `columns` or `file`"):
            ModalitySettings(**given)


def test_what_was_fitted_is_kept_for_the_same_rows_and_settings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    features = Features(Attributes(pl.DataFrame({"id": [0]})), Attributes(FRAME, KINDS))

    def values(known: np.ndarray = KNOWN, **options: Any) -> torch.Tensor:
        settings = {"text": ModalitySettings(columns=["plot"], **{"dim": 2, **options})}
        both = {"known_users": np.array([True]), "known_items": known}
        return content_of(settings, features, **both, root=Path(), cache=tmp_path)[0].items["text"].values

    first = values()
    (path,) = tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    assert torch.equal(values(), first)
    assert path.stat().st_mtime_ns == written
    values(dim=3)
    values(known=~np.arange(8).astype(bool) | KNOWN)  # the same rows
    assert len(list(tmp_path.iterdir())) == 2
    values(known=np.array([True] * 4 + [False] * 4))
    assert len(list(tmp_path.iterdir())) == 3
    path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(values(), first)
    assert "is damaged; fitting it again" in caplog.text
