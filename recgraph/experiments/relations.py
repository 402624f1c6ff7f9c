"""Links among users or among items: the `relations:` block of an experiment file.

relations:
  social: {side: user, column: friends, weight: 0.3}      ids of other users, a feature of the dataset
  citations: {column: citations}                          ids of other items
  alike: {content: tags, neighbours: 10, weight: 0.5}     the most similar items in a modality of `content:`

Links are added to the training graph (`BipartiteGraph.linked`), so that users and items without interactions have
neighbours. Links do not depend on interactions, except that neighbours in content must have some in training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor

from recgraph.baselines.content_knn import nearest_warm
from recgraph.data.features import Attributes, Features, Kind, Side
from recgraph.data.interactions import Interactions
from recgraph.errors import ConfigError, DataError, suggest
from recgraph.graph.links import Links
from recgraph.types import Content

Pairs = tuple[Int[Tensor, "pairs"], Int[Tensor, "pairs"], Float[Tensor, "pairs"]]
"""Both ends of links, and their weights."""


class RelationSettings(BaseModel):
    """An entry of the `relations:` block."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    side: Side = "item"
    """Whether it links users or items."""
    column: str | None = None
    """A multi_hot feature of the dataset's card whose values are ids of the same side. A pair is linked if either names
    the other; ids that the dataset does not have are left out."""
    content: str | None = None
    """Instead of a column: a modality of `content:`, of the same side. A pair is linked if either is among the other's
    `neighbours`, and its weight is multiplied by its cosine."""
    neighbours: PositiveInt = 10
    """With `content`: neighbours of each, among those with training interactions; fewer where fewer have a cosine above
    0."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Number of interactions that a link counts as."""

    @model_validator(mode="after")
    def _one_source(self) -> RelationSettings:
        if (self.column is None) == (self.content is None):
            raise ValueError("expected either `column` or `content`")
        if self.content is None and "neighbours" in self.model_fields_set and self.neighbours != 10:
            raise ValueError("`neighbours` are of `content`; a column has as many as it names")
        return self


def check_relations(settings: Mapping[str, RelationSettings], kinds: Mapping[Side, Mapping[str, Kind]]) -> None:
    """Reject entries whose column the dataset lacks, or has in another form.

    Raises:
        ConfigError: with the address of the entry.
    """
    for name, entry in settings.items():
        known = kinds[entry.side]
        if entry.column is None:
            continue
        where = f"relations.{name}.column"
        if entry.column not in known:
            raise ConfigError(
                f"{where}: no feature {entry.column!r} of {entry.side}s in this dataset. {suggest(entry.column, known)}"
            )
        if known[entry.column] != "multi_hot":
            raise ConfigError(
                f"{where}: expected a multi_hot feature of ids, {entry.column!r} is {known[entry.column]}"
            )


def links_of(
    settings: Mapping[str, RelationSettings], features: Features, content: Content | None, train: Interactions
) -> tuple[Links | None, Links | None]:
    """The links among users and among items; if several relations link a pair, their weights add up.

    Args:
        settings: the `relations:` block.
        features: attributes of users and items.
        content: the modalities that entries name.
        train: training interactions.

    Raises:
        DataError: an entry links no pair, or its values differ in type from the ids.
    """
    made: dict[Side, list[Pairs]] = {"user": [], "item": []}
    for name, entry in settings.items():
        where = f"relations.{name}"
        size = train.num_users if entry.side == "user" else train.num_items
        if entry.column is not None:
            pairs = _named(features.users if entry.side == "user" else features.items, entry.column, where)
        else:
            assert content is not None  # `check` ensures that it is built
            pairs = _alike(entry, content, train)
        one, other, weights = _once(pairs, size)
        if not len(one):
            raise DataError(f"{where}: no {entry.side} is linked with another")
        made[entry.side].append((one, other, entry.weight * weights))
    users, items = _joined(made["user"], train.num_users), _joined(made["item"], train.num_items)
    return users, items


def _named(attributes: Attributes, column: str, where: str) -> Pairs:
    """Pairs of which one names the other in a column."""
    ids, named = attributes.frame["id"], attributes.frame.select(pl.col(column))
    if (kind := named[column].dtype.inner) != ids.dtype and kind != pl.Null:  # type: ignore[attr-defined]  # of a list
        raise DataError(f"{where}: {column!r} holds {kind}, but ids are {ids.dtype}")
    named = named.select(pl.col(column).cast(pl.List(ids.dtype)))  # polars has no type for a column of empty lists
    known = pl.DataFrame({column: ids, "other": np.arange(len(ids))})
    pairs = named.with_columns(one=np.arange(len(ids))).explode(column).drop_nulls().join(known, on=column, how="inner")
    one, other = (torch.from_numpy(pairs[end].to_numpy().astype(np.int64)) for end in ("one", "other"))
    return one, other, torch.ones(len(one))


def _alike(entry: RelationSettings, content: Content, train: Interactions) -> Pairs:
    """Pairs of a user or item and one of its nearest neighbours in content."""
    assert entry.content is not None
    sides: tuple[Mapping, np.ndarray, int] = (content.items, train.item_indices, train.num_items)
    if entry.side == "user":
        sides = (content.users, train.user_indices, train.num_users)
    modalities, indices, size = sides
    warm = torch.bincount(torch.from_numpy(indices), minlength=size) > 0
    near = nearest_warm(Content({entry.content: modalities[entry.content]}), warm, entry.neighbours)
    return torch.repeat_interleave(near.starts.diff()), near.columns.long(), near.values


def _once(pairs: Pairs, size: int) -> Pairs:
    """Each pair once, in whichever order it was given, without links of a user or item to itself."""
    one, other, weights = pairs
    key = torch.minimum(one, other) * size + torch.maximum(one, other)
    apart = (one != other).nonzero().squeeze(1)
    found, place = np.unique(key[apart].numpy(), return_index=True)
    return torch.from_numpy(found // size), torch.from_numpy(found % size), weights[apart][torch.from_numpy(place)]


def _joined(several: Iterable[Pairs], size: int) -> Links | None:
    several = list(several)
    if not several:
        return None
    one, other, weights = map(torch.cat, zip(*several, strict=True))
    return Links.of(one, other, weights, size)
