"""Which heads can be combined with which encoders, what an encoder can do, and the inputs that heads get from it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recgraph import registry
from recgraph.encoders.base import Encoder
from recgraph.encoders.sequential import SequenceEncoder, steps
from recgraph.errors import ConfigError
from recgraph.heads.base import Head, with_steps
from recgraph.types import PAD, Encoding


def check_head(head: Any, reads: frozenset[str], where: str, of: str) -> None:
    """Refuse a head that reads something that the encoder does not read.

    Args:
        head: its entry in a configuration.
        reads: what the encoder reads.
        where: path of the entry, for messages.
        of: what to call the encoder.

    Raises:
        ConfigError: it does, or the entry is not valid.
    """
    name = registry.heads.check(head, where)["name"]
    if lacking := registry.heads.find(name, where).reads - reads - {"popularity"}:
        able = [one for one, kind in registry.encoders.components().items() if lacking <= kind.reads]
        raise ConfigError(
            f"{where}: {name} looks at {sorted(lacking)}, which {of} does not read; these do: {', '.join(able)}"
        )


def check_histories(encoder: Encoder) -> None:
    """Refuse an encoder that reads histories but cannot rank for users after theirs.

    Raises:
        ConfigError: it is no `SequenceEncoder`.
    """
    if "history" in encoder.reads and not isinstance(encoder, SequenceEncoder):
        raise ConfigError(
            f"{type(encoder).__name__} reads histories: derive it from recgraph.encoders.sequential.SequenceEncoder, "
            "whose `query` ranks for users after theirs"
        )


def check_timeless(encoder: Encoder) -> None:
    """Refuse to rank with an encoder whose vectors depend on the moment of a row.

    Raises:
        ConfigError: they do.
    """
    if "context" in encoder.reads:
        raise ConfigError(
            f"{type(encoder).__name__} reads the moment of a row: it can `predict` rows, but has no vectors without "
            "one; for rankings, leave out encoder.context"
        )


def asked(head: Head, encoding: Encoding) -> Tensor:
    """Queries in the form that a head expects."""
    if "history" not in head.reads:
        return encoding.query
    assert encoding.past is not None  # ensured by `check_head`
    history = encoding.past.rows()
    return with_steps(encoding.query, steps(encoding.items, history)[0], history > PAD)


def offered(
    head: Head,
    vectors: Float[Tensor, "*rows dim"],
    popularity: Float[Tensor, "items"] | None,
    items: Int[Tensor, "*rows"] | None = None,
) -> Tensor:
    """Item vectors in the form that a head expects.

    Args:
        head: the head.
        vectors: of items.
        popularity: ln(1 + number of interactions) of each item of the catalogue.
        items: indices of the vectors' items. None for the whole catalogue, or for k stacked copies [k · items, dim],
            since some objectives score several vectors per item; indices then continue from one copy to the next.

    Returns:
        The vectors; if the head reads popularity, with a last column for it [*rows, dim + 1].
    """
    if "popularity" not in head.reads:
        return vectors
    assert popularity is not None  # `Recommender` keeps it for such heads
    num = len(popularity)
    known = popularity.repeat(len(vectors) // num) if items is None else popularity[items % num]
    return torch.cat([vectors, known.to(vectors).unsqueeze(-1)], -1)
