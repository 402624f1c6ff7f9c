"""What a baseline is: a model with a closed form, or one that another library fits."""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from recgraph import registry
from recgraph.data.interactions import Interactions
from recgraph.models.model import Model
from recgraph.types import Content


class Baseline(Model):
    """Learns from a table of interactions in one call. What it learned is kept in buffers, so that it can be saved.

    Keyword-only arguments of a subclass are its options; they must be stored as attributes of the same names.
    """

    reads: ClassVar[frozenset[str]] = frozenset()
    """{"content"} for a model that is to have `content` before it is fitted."""

    content: Content | None = None
    """What users and items are; not saved."""

    def fit(self, train: Interactions) -> None:
        """Learn from the training interactions."""
        raise NotImplementedError

    def embeddings(self) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        """Vectors of users and items whose products are the scores; only of models that have them.

        Such a model takes its width as `dim`.
        """
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """The options, by name."""
        return {name: getattr(self, name) for name in registry.options(type(self))}  # type: ignore[arg-type]

    @classmethod
    def rebuild(cls, num_users: int, num_items: int, options: dict[str, Any], tensors: dict[str, Tensor]) -> Baseline:
        """See `Model.rebuild`."""
        return cls(num_users, num_items, **options)
