"""The base class of baselines: models with a closed form, or fitted by another library."""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from recgraph import registry
from recgraph.data.interactions import Interactions
from recgraph.models.model import Model
from recgraph.types import Content


class Baseline(Model):
    """Learns from a table of interactions in one call, and keeps what it learned in buffers, so that it can be saved.

    A subclass's keyword-only arguments are its options; it must store them as attributes of the same names.
    """

    reads: ClassVar[frozenset[str]] = frozenset()
    """{"content"} if `content` must be set before `fit`."""

    content: Content | None = None
    """Modalities of users and items; not saved."""

    def fit(self, train: Interactions) -> None:
        """Learn from the training interactions."""
        raise NotImplementedError

    def embeddings(self) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        """Vectors of users and items whose inner products are the scores; only for factorisation models.

        Such a model has an option `dim`, the width of the vectors.
        """
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """The options, by name."""
        return {name: getattr(self, name) for name in registry.options(type(self))}  # type: ignore[arg-type]

    @classmethod
    def rebuild(cls, num_users: int, num_items: int, options: dict[str, Any], tensors: dict[str, Tensor]) -> Baseline:
        """See `Model.rebuild`."""
        return cls(num_users, num_items, **options)
