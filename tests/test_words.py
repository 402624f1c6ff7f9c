"""Vectors of words from a corpus: equal to loops, near where words mean alike, kept with a model, told of new items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from test_coldstart import NEW, done, films  # noqa: F401  # fixtures

from recgraph import cli
from recgraph.data.content import content_of, pack, unpack
from recgraph.data.features import Attributes, Features
from recgraph.data.modalities import ModalitySettings, fit_modality
from recgraph.data.terms import Terms
from recgraph.data.words import near, positive_pmi, word_vectors
from recgraph.errors import ConfigError, DataError
from recgraph.experiments.experiment import plan
from recgraph.models.recommender import Recommender

CORPUS = [
    "the wolf hunts deer in the forest",
    "a fox hunts mice in the forest at night",
    "night falls and the wolf howls",
    "the rocket flies to the moon at night",
    "moon rocket and star ship",
    "the star ship flies the star ship",
]
TEXT: dict[str, Any] = {"text": "text"}


def rows_of(texts: list[str]) -> tuple[Terms, np.ndarray, list[list[str]]]:
    rows = [[word for word in text.split() if len(word) > 1] for text in texts]
    terms = Terms(tuple(sorted({word for row in rows for word in row})))
    return terms, terms.places(rows), rows


def naive_pmi(rows: list[list[str]], names: tuple[str, ...], window: int, shift: float) -> np.ndarray:
    """By loops over every word and the words around it."""
    counts = {(word, context): 0 for word in names for context in names}
    for row in rows:
        for at, word in enumerate(row):
            for other, context in enumerate(row):
                if other != at and abs(other - at) <= window:
                    counts[word, context] += 1
    total = sum(counts.values())
    of = {word: sum(counts[word, context] for context in names) for word in names}
    smoothed = {word: of[word] ** 0.75 / sum(of[other] ** 0.75 for other in names) for word in names}
    found = np.zeros((len(names), len(names)))
    for i, word in enumerate(names):
        for j, context in enumerate(names):
            if counts[word, context]:
                together = counts[word, context] / total
                found[i, j] = max(0, np.log(together / (of[word] / total * smoothed[context])) - np.log(shift))
    return found


@pytest.mark.parametrize("window", [1, 3, 20])
@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_information_equals_loops(window: int, shift: float) -> None:
    terms, places, rows = rows_of(CORPUS)
    found = positive_pmi(near(places, len(terms.names), window), shift)
    expected = naive_pmi(rows, terms.names, window, shift)
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-12)
    assert found.nnz == (expected > 0).sum()


@pytest.mark.parametrize(
    ("dim", "near_enough"), [(3, 1e-3), (300, 1e-8)]
)  # the SVD of a part of it is a randomised one
def test_vectors_equal_a_dense_decomposition(dim: int, near_enough: float) -> None:
    terms, places, rows = rows_of(CORPUS)
    found = word_vectors(places, len(terms.names), window=2, shift=1.0, dim=dim)
    left, values, _ = np.linalg.svd(naive_pmi(rows, terms.names, 2, 1.0))
    expected = left[:, :dim] * np.sqrt(values[:dim])
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=near_enough)  # up to a rotation


def made(texts: list[str | None], known: list[bool] | None = None, **options: Any) -> torch.Tensor:
    frame = pl.DataFrame({"id": range(len(texts)), "text": texts}, schema_overrides={"text": pl.String})
    settings = ModalitySettings(columns=["text"], by="words", **{"min_count": 1, "max_share": 1.0, **options})
    rows = np.array(known or [True] * len(texts))
    return fit_modality(settings, frame, TEXT, rows, "content.x").transform(frame, "content.x")


def test_a_text_is_the_sum_of_its_words_without_what_texts_have_in_common() -> None:
    terms, _, rows = rows_of(CORPUS)
    left, values, _ = np.linalg.svd(naive_pmi(rows, terms.names, 2, 1.0))
    word = dict(zip(terms.names, left[:, :4] * np.sqrt(values[:4]), strict=True))
    sums = []
    for row in rows:
        weights = {
            name: (1 + np.log(row.count(name))) * (np.log(7 / (1 + sum(name in other for other in rows))) + 1)
            for name in set(row)
        }
        length = np.sqrt(sum(weight**2 for weight in weights.values()))
        sums.append(sum(weight * word[name] for name, weight in weights.items()) / length)
    _, _, right = np.linalg.svd(np.array(sums))
    texts = np.array(sums) - np.array(sums) @ np.outer(right[0], right[0])
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    found = made(CORPUS, window=2, dim=4)[0].numpy()
    np.testing.assert_allclose(found @ found.T, texts @ texts.T, atol=1e-5)


def topics() -> list[str]:
    """Texts on animals and on space. "wolf" and "fox" are in no text together, nor are "rocket" and "shuttle"."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(120):
        names, around = (
            (("wolf", "fox"), ("forest", "cub", "den", "prey", "snow")),
            (("rocket", "shuttle"), ("orbit", "moon", "crew", "star", "launch")),
        )[number % 2]
        found.append(" ".join(rng.permutation([names[number // 2 % 2], *rng.choice(around, 3, replace=False)])))
    return found


def test_words_in_the_same_company_are_near_and_so_are_their_texts() -> None:
    terms, places, _ = rows_of(topics())
    vectors = word_vectors(places, len(terms.names), window=3, shift=1.0, dim=6)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = vectors @ vectors.T - 2 * np.eye(len(terms.names))
    animals = {"wolf", "fox", "forest", "cub", "den", "prey", "snow"}
    for name, row in zip(terms.names, likeness, strict=True):
        assert (terms.names[int(row.argmax())] in animals) == (name in animals)
    wolf, fox, rocket = made([*topics(), "wolf", "fox", "rocket"], [True] * 120 + [False] * 3, dim=6).values[-3:]
    assert wolf @ fox > 0.5  # without a word in common: TF-IDF itself would have 0
    assert wolf @ rocket < 1e-6  # no company in common; how 0 is rounded depends on the processor


def test_what_is_not_known_is_masked_and_cold_rows_change_nothing() -> None:
    texts: list[str | None] = [*CORPUS, "", None, "zzz qqq", "🎬", "wolf zzz"]
    known = [True] * 6 + [False] * 5
    values, present = made(texts, known)
    assert present.tolist() == [True] * 6 + [False] * 4 + [True]
    assert not values[6:10].any()
    torch.testing.assert_close(values[[*range(6), 10]].norm(dim=1), torch.ones(7))
    others = made([*CORPUS, *["moon wolf"] * 5], known).values
    assert torch.equal(others[:6], values[:6])
    assert torch.equal(made(texts, known).values, values)


@pytest.mark.parametrize("text", ["Привет мир кино", "मेरी प्यारी बिंदु", "الفيلم الجديد", "千と千尋の神隠し", "ไทยแลนด์"])
def test_other_scripts_have_words_too(text: str) -> None:
    values, present = made([text, text, "plain words in English", "plain English words", text.split()[0]])
    assert present.all()
    assert values[0] @ values[1] > 0.99
    assert values[0] @ values[2] < 0.1


@pytest.mark.parametrize("texts", [["wolf", "fox", "wolf", "fox"], ["wolf fox", "wolf fox"]])
def test_a_corpus_that_tells_nothing_is_refused(texts: list[str]) -> None:
    with pytest.raises(DataError, match=r"content.x: which words of text stand near each other tells no texts apart"):
        made(texts)


def test_vectors_survive_being_packed_and_kept(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": range(6), "text": CORPUS})
    settings = {"text": ModalitySettings(columns=["text"], by="words", min_count=1, window=2)}
    features = Features(Attributes(pl.DataFrame({"id": [0]})), Attributes(frame, TEXT))
    known: Any = {"known_users": np.array([True]), "known_items": np.array([True] * 4 + [False] * 2)}
    content, pipeline = content_of(settings, features, **known, root=Path(), cache=tmp_path)
    again = unpack(*pack(pipeline))["text"]
    assert again.settings == settings["text"]
    assert torch.equal(again.transform(frame, "x").values, content.items["text"].values)
    kept, _ = content_of(settings, features, **known, root=Path(), cache=tmp_path)
    assert torch.equal(kept.items["text"].values, content.items["text"].values)
    wider = {"text": settings["text"].model_copy(update={"window": 5})}
    other, _ = content_of(wider, features, **known, root=Path(), cache=tmp_path)
    assert not torch.equal(other.items["text"].values, content.items["text"].values)


WORDS = {"text": {"columns": ["title", "plot"], "by": "words", "dim": 8, "max_share": 1.0}}


def test_new_items_go_through_the_words_of_training(films: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    folder, result = done(films, "hybrid", content=WORDS)
    assert result["test"]["ndcg@5:cold"] > 0.4  # a random ranking of cold items is near .2
    model = Recommender.load(folder)
    new = NEW.with_columns(plot=pl.Series([*NEW["plot"][:2], "unheard"]))
    more = model.add_items(new)
    fitted = model.pipeline["text"]
    assert torch.equal(more.content.items["text"].values[60:], fitted.transform(new, "x").values)
    assert more.content.items["text"].present[60:].tolist() == [True, True, False]
    more.save(films.parent / "more")
    assert Recommender.load(films.parent / "more").recommend("u0", 60) == more.recommend("u0", 60)
    NEW.write_csv("new.csv")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["recommend", str(folder), "--user", "u0", "-k", "60", "--items", "new.csv"])
    assert not stopped.value.code
    assert "901" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 3}, "`window` does nothing with `by: tfidf`; it is of words"),
        ({"model": "x"}, "`model` does nothing with `by: tfidf`; it is of sentences"),
        ({"by": "words", "model": "x"}, "`model` does nothing with `by: words`; it is of sentences"),
        ({"by": "sentences", "model": "x", "dim": 30}, "`dim` does nothing with `by: sentences`; it is of tfidf and"),
        ({"by": "sentences", "model": "x", "shift": 2}, "`shift` does nothing with `by: sentences`; it is of words"),
        ({"by": "sentences"}, "`by: sentences` wants `model`"),
        ({"by": "words", "shift": 0.5}, "greater than or equal to 1"),
        ({"by": "word"}, "'tfidf', 'words' or 'sentences'"),
        ({"by": "words", "ids": True}, "`by` is of vectors that are made of text"),
        ({"by": "words", "columns": [], "file": "x.npy"}, "`by` is of vectors that are made of text"),
    ],
)
def test_options_that_do_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModalitySettings(**{"columns": ["plot"], **options})


def test_a_way_of_text_is_of_text_alone(films: Path) -> None:  # noqa: F811
    for column, by in (("genres", "words"), ("year", "words")):
        with pytest.raises(ConfigError, match=rf"content.x.by: it is of text, and {column} is of the kind"):
            plan(films, rows=["hybrid"], overrides={"content": {"x": {"columns": [column], "by": by}}})


def test_a_configuration_says_its_own_ways_options_alone(films: Path) -> None:  # noqa: F811
    """So files from before there were ways keep the names of their runs, and a row may take another way than its base."""
    plain = {"side", "columns", "file", "dim", "min_count", "max_share"}
    for written, own in (
        ({}, plain),
        ({"by": "tfidf"}, plain),
        ({"by": "words"}, plain | {"by", "window", "shift"}),
        ({"by": "sentences", "model": "x"}, {"side", "columns", "file", "by", "model"}),
    ):
        settings = ModalitySettings(columns=["plot"], **written)
        assert set(settings.model_dump(exclude={"ids"})) == own
        assert ModalitySettings(**settings.model_dump()) == settings
    (before,) = plan(films, rows=["hybrid"])
    (after,) = plan(films, rows=["hybrid"], overrides={"content.text.by": "tfidf"})
    (words,) = plan(films, rows=["hybrid"], overrides={"content.text.by": "words"})
    assert before.config_hash == after.config_hash != words.config_hash
    assert words.config["content"]["text"]["window"] == 5
    films.write_text(
        films.read_text()
        .replace("plot]", "plot], by: words")
        .replace("  hybrid: {}", "  hybrid: {content.text.by: tfidf}")
    )
    assert plan(films, rows=["hybrid"])[0].config_hash == before.config_hash
