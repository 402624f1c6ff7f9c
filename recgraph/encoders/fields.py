"""Users and items as fields: an embedding and a weight for every value of every field.

Cheng et al., "Wide & deep learning for recommender systems", DLRS 2016, https://arxiv.org/abs/1606.07792, section 3:
the embeddings belong to its deep part, the weights to its wide part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recgraph.encoders.base import Encoder, embedding_table, lookup
from recgraph.encoders.content import checked
from recgraph.encoders.values import Tables, bag, side_of
from recgraph.errors import ConfigError
from recgraph.layout import Layout
from recgraph.numerics.hashing import pairs
from recgraph.registry import encoders
from recgraph.types import CONTEXT, Content, Ego, Encoding, Inputs, Modality, PositiveFloat, PositiveInt

LARGEST = 2**24
"""Ids that a float32 column can hold exactly."""


@encoders.register("fields")
class Fields(Encoder):
    """Concatenates field embeddings: of the user and the context for a query, of the item for an item vector.

    The heads linear, wide_deep, fm, deepfm and dcn read the fields in the columns (`layout`). Any other head takes the
    vectors whole, the shorter side zero-padded; it requires `wide: false` and no crosses.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        content: the modalities, each a field; those with `ids: true` have an embedding for each value.
        dim: width of a field's embedding.
        std: standard deviation of the initial embeddings.
        wide: also give each value a weight, for heads with a linear part. Weights are initialised to 0.
        crosses: pairs of fields; each pair of their values has a weight. Fields are `user`, `item`, context fields and
            modalities of ids. These are the paper's cross-product transformations, hashed. The ids of users and items
            added after training are in no pair.
        buckets: number of weights for each cross.
        context: context fields to read from the time of an interaction: hour, weekday.
    """

    reads = frozenset({"content", "perturb"})
    trained: Tensor

    def __init__(
        self,
        num_users: int,
        num_items: int,
        content: Content,
        *,
        dim: PositiveInt = 16,
        std: PositiveFloat = 0.01,
        wide: bool = True,
        crosses: tuple[tuple[str, str], ...] = (),
        buckets: PositiveInt = 100_000,
        context: tuple[Literal["hour", "weekday"], ...] = (),
    ) -> None:
        sides, moments = (content.users, content.items), (tuple(dict.fromkeys(context)), ())
        most = [
            {own: 1, **{name: m.values.shape[1] for name, m in modalities.items() if not m.values.is_floating_point()}}
            | dict.fromkeys(names, 1)
            for own, modalities, names in zip(("user", "item"), sides, moments, strict=True)
        ]
        if taken := ({"user", "item", *CONTEXT} & {*content.users, *content.items}):
            raise ConfigError(f"encoder fields has a field {min(taken)!r} of its own: give the modality another name")
        placed = [(pair, tuple(side_of(name, most) for name in pair)) for pair in crosses]
        if any(len({*pair}) < 2 for pair in crosses) or len({*map(frozenset, crosses)}) < len(crosses):
            raise ConfigError(
                f"encoder.crosses: expected pairs of two fields, each once, got {list(map(list, crosses))}"
            )
        # Crosses of query with item fields are computed by the head; the query's field comes first.
        self.across = [pair[:: 1 - 2 * at[0]] for pair, at in placed if at[0] != at[1]]
        self.within = [[pair for pair, at in placed if at == (side, side)] for side in range(2)]
        if crosses and not wide:
            raise ConfigError("encoder.crosses: they are weights of the linear part, and `wide: false` leaves it out")
        for name in {name for pair in self.across for name in pair} - {*CONTEXT}:
            known = {"user": num_users, "item": num_items}.get(name) or int(
                {**content.users, **content.items}[name].values.max()
            )
            if known > LARGEST:
                raise ConfigError(f"encoder.crosses: {name} has {known} values; at most {LARGEST} can be crossed")
        columns = Layout(
            *(dim, 1 + len(content.users) + len(moments[0]), 1 + len(content.items), wide),
            tuple((most[0][one], most[1][other]) for one, other in self.across),
            buckets,
        )
        width = max(int(wide) + columns.widths[side] + sum(c[side] for c in columns.crosses) for side in range(2))
        super().__init__(num_users, num_items, dim=width)
        self._layout, self.context = columns, moments[0]
        if crosses:  # kept as it is when users and items are added, whose pairs would have the weights of others
            self.register_buffer("trained", torch.tensor([num_users, num_items]))
        if context:
            self.reads = self.reads | {"context"}
        of_side = list(zip((num_users, num_items), sides, moments, strict=True))
        self.users, self.items = (Tables(*each, dim=dim, std=std) for each in of_side)
        if wide:
            self.wide = nn.ModuleList(
                nn.ModuleList([Tables(*each, dim=1, std=0.0), *(embedding_table(buckets, 1, 0.0) for _ in inner)])
                for each, inner in zip(of_side, self.within, strict=True)
            )

    @property
    def layout(self) -> Layout:
        """See `Encoder.layout`."""
        return self._layout

    def forward(self, inputs: Inputs) -> Encoding:
        """Look up all embeddings and weights; `inputs.perturb` acts on the embeddings.

        Raises:
            TypeError: `inputs` lacks the content, or the context that is to be read.
        """
        content = checked(inputs)
        if self.context and inputs.context is None:
            raise TypeError(f"this encoder reads {', '.join(self.context)} of `Inputs.context`, which a click has")
        items = torch.arange(self.num_items, device=inputs.users.device)
        query = self._vectors(0, inputs.users, content.users, inputs)
        ego = Ego(lookup(self.users.index.weight, inputs.users), self.items.index.weight)
        return Encoding(query, self._vectors(1, items, content.items, inputs), ego)

    def _vectors(self, side: int, rows: Tensor, modalities: Mapping[str, Modality], inputs: Inputs) -> Tensor:
        context = None if side else inputs.context

        def ids(name: str) -> Tensor:
            if name in modalities:
                return modalities[name].values[rows]
            if name in self.context and context is not None:
                return context[..., [list(CONTEXT).index(name)]] + 1
            return ((rows + 1) * (rows < self.trained[side])).unsqueeze(-1)

        deep = inputs.perturb((self.users, self.items)[side](rows, modalities, context))
        parts = [deep.flatten(-2)]
        if self._layout.wide:
            modules: Any = self.wide[side]  # for the type checker, which only knows that it is a module
            tables, *crossed = modules
            weight = tables(rows, modalities, context).sum(-2)
            for (one, other), table in zip(self.within[side], crossed, strict=True):
                weight = weight + bag(table, pairs(ids(one), ids(other), self._layout.buckets))
            parts.insert(0, weight)
        parts += [ids(pair[side]).to(deep.dtype) for pair in self.across]
        vectors = torch.cat(parts, -1)
        return F.pad(vectors, (0, self.dim - vectors.shape[-1]))
