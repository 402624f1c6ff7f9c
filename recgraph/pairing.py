"""Which heads go with which encoders, and what they hand each other."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
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
    if lacking := registry.heads.find(name, where).reads - reads:
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


def offered(head: Head, items: Float[Tensor, "items dim"], popularity: Float[Tensor, "items"] | None) -> Tensor:
    """The catalogue's vectors as a head wants them; popularity is the ln of 1 + the interactions of each item."""
    if "popularity" not in head.reads:
        return items
    assert popularity is not None  # `Recommender` has it for such a head
    return torch.cat([items, popularity.to(items).unsqueeze(1)], 1)
