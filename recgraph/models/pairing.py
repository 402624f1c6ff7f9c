"""Which heads go with which encoders, and what they hand each other."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recgraph import registry
from recgraph.encoders.sequential import steps
from recgraph.errors import ConfigError
from recgraph.heads.base import Head, with_steps
from recgraph.types import PAD, Encoding


def check_head(head: Any, reads: frozenset[str], where: str, of: str) -> None:
    """Refuse a head that wants to know more than an encoder that reads `reads` can tell it.

    Args:
        head: its entry in a configuration.
        reads: what the encoder reads.
        where: the entry's address, for messages.
        of: what to call the encoder.

    Raises:
        ConfigError: it does.
    """
    name = head if isinstance(head, str) else head["name"]
    if lacking := registry.heads.find(name, where).reads - reads - {"popularity"}:
        able = [one for one, kind in registry.encoders.components().items() if lacking <= kind.reads]
        raise ConfigError(
            f"{where}: {name} looks at {sorted(lacking)}, which {of} does not read; these do: {', '.join(able)}"
        )


def asked(head: Head, encoding: Encoding) -> Tensor:
    """Queries as a head wants them."""
    if "history" not in head.reads:
        return encoding.query
    assert encoding.past is not None  # `check_head` has seen to it
    history = encoding.past.rows()
    return with_steps(encoding.query, steps(encoding.items, history)[0], history > PAD)


def offered(
    head: Head,
    vectors: Float[Tensor, "*rows dim"],
    popularity: Float[Tensor, "items"] | None,
    items: Int[Tensor, "*rows"] | None = None,
) -> Tensor:
    """Items' vectors as a head wants them.

    Args:
        head: which one.
        vectors: of items.
        popularity: the ln of 1 + the interactions of each item of the catalogue.
        items: which ones the vectors are of; None for the whole catalogue, or k of them stacked [k · items, dim], as
            some objectives score an item's several vectors. Numbers from `items` on belong to the later ones.

    Returns:
        The vectors, with a column of popularity behind them [*rows, dim + 1] where the head reads it.
    """
    if "popularity" not in head.reads:
        return vectors
    assert popularity is not None  # `Recommender` has it for such a head
    num = len(popularity)
    known = popularity.repeat(len(vectors) // num) if items is None else popularity[items % num]
    return torch.cat([vectors, known.to(vectors).unsqueeze(-1)], -1)
