"""Graph vectors for known users and items, content vectors for new ones, in one space and of one length.

Volkovs et al., "DropoutNet: Addressing cold start in recommender systems", NIPS 2017 (`dropout`); Wei et al.,
"Contrastive learning for cold-start recommendation", MM 2021, https://arxiv.org/abs/2107.05315 (the loss that pulls the
two vectors of an item together, `recgraph.objectives.content`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from recgraph.encoders.base import Encoder, graph_of, lookup
from recgraph.encoders.content import checked
from recgraph.encoders.tower import Fusion, Tower
from recgraph.errors import ConfigError
from recgraph.graph.links import Links
from recgraph.numerics.matmul import unit
from recgraph.registry import encoders
from recgraph.types import (
    Content,
    Ego,
    Encoding,
    Fraction,
    Inputs,
    Modality,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Sides,
)


@encoders.register("hybrid")
class Hybrid(Encoder):
    """Mixes the vector gᵢ that another encoder gives an item with its content vector cᵢ, by number of interactions.

        eᵢ = (nᵢ gᵢ + k cᵢ) / (nᵢ + k),   cᵢ = ḡ · tower(xᵢ) / ‖tower(xᵢ)‖

    nᵢ is the item's number of training interactions: a cold item has cᵢ alone, and with k = 0 a warm one gᵢ alone. If
    the graph has links, their weights are added to nᵢ, since a cold item with links has neighbours: k then determines
    how much its content still counts. Users with modalities are mixed in the same way. A side without modalities keeps
    the other encoder's vectors.

    Warm and cold items can share one ranking only if their scores are of the same magnitude, so content vectors are
    scaled to the warm items' mean length (ḡ, which passes no gradient). This matters for heads that depend on length,
    like `dot`, not for `cosine`. Directions must be aligned by training: `dropout` presents random warm items to the
    objectives as if they were cold, and `clcrec` aligns the two vectors of an item pair by pair. Without either and
    with k = 0, nothing trains the towers.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        content: the modalities; only their widths are read.
        graph: the encoder of known users and items; it may read more than the graph. Its `dim` is also this one's.
        hidden: width of the towers' hidden layer; 0 for linear towers.
        tower_dropout: fraction of the hidden layer that is zeroed in training, in [0, 1).
        dropout: probability that a warm item (or user with content) is treated as cold in a training step, in [0, 1).
            DropoutNet's authors drop half of their inputs on CiteULike.
        experts, fusion: networks in each tower, and how modalities are fused; see `Tower`. Heater has 5 on CiteULike.
        shrinkage: k, 0 or more: the number of interactions that the content counts for.
    """

    reads = frozenset({"graph", "content", "perturb"})
    linked = True
    propagates = False
    two_sided = True

    def __init__(
        self,
        num_users: int,
        num_items: int,
        content: Content,
        *,
        graph: Encoder,
        hidden: NonNegativeInt = 256,
        tower_dropout: Fraction = 0.0,
        dropout: Fraction = 0.0,
        experts: PositiveInt = 1,
        fusion: Fusion = "attention",
        shrinkage: NonNegativeFloat = 0.0,
    ) -> None:
        super().__init__(num_users, num_items, dim=graph.dim)
        if not (content.items or content.users):
            raise ConfigError("encoder hybrid: no modality is given; add one of items or of users to `content:`")
        if lacking := graph.reads - self.reads:
            raise ConfigError(f"encoder.graph: reads {sorted(lacking)}, which hybrid does not hand on")
        graph.layout.refuse_weights("encoder.graph", "Hybrid")
        self.graph, self.dropout, self.shrinkage = graph, dropout, shrinkage

        def tower(modalities: Mapping[str, Modality]) -> Tower:
            return Tower(
                modalities, dim=graph.dim, hidden=hidden, dropout=tower_dropout, experts=experts, fusion=fusion
            )

        self.item_tower = tower(content.items) if content.items else None
        self.user_tower = tower(content.users) if content.users else None

    def forward(self, inputs: Inputs) -> Encoding:
        """Encode with both, and mix; `inputs.perturb` acts on the graph's hidden layers and on content vectors.

        Raises:
            TypeError: `inputs` has no graph, or no content.
        """
        content = checked(inputs)
        graph = graph_of(inputs, self)
        everybody = torch.arange(self.num_users, device=inputs.users.device)
        encoding = self.graph(inputs if self.user_tower is None else replace(inputs, users=everybody))
        if self.item_tower is not None:
            made = self._content(self.item_tower, content.items, encoding.items, graph.item_degrees)
            sides = Sides(encoding.items, inputs.perturb(made))
            mixed = self._mix(*sides, how_known(graph.item_degrees, graph.item_links))
            encoding = replace(encoding, items=mixed, sides=sides)
        if self.user_tower is None:
            return encoding
        theirs = inputs.perturb(self._content(self.user_tower, content.users, encoding.query, graph.user_degrees))
        query = lookup(self._mix(encoding.query, theirs, how_known(graph.user_degrees, graph.user_links)), inputs.users)
        ego = encoding.ego.query
        mine = None if ego is None else lookup(ego, inputs.users)
        return replace(encoding, query=query, ego=Ego(mine, encoding.ego.items))

    def _content(
        self, tower: Tower, modalities: Mapping[str, Modality], known: Tensor, degrees: Int[Tensor, "rows"]
    ) -> Float[Tensor, "rows dim"]:
        """Content vectors, scaled to the mean length of the warm rows' vectors."""
        warm = degrees > 0
        length = (known.detach().norm(dim=-1) * warm).sum() / warm.sum().clamp(min=1)
        return unit(tower(modalities)) * length

    def _mix(
        self, known: Float[Tensor, "rows dim"], content: Float[Tensor, "rows dim"], degrees: Num[Tensor, "rows"]
    ) -> Float[Tensor, "rows dim"]:
        share = degrees.to(known.dtype) / (degrees + self.shrinkage).clamp(min=1e-9)  # 0, not 0 / 0, for a cold row
        if self.training and self.dropout:
            share = share * (torch.rand(share.shape, device=share.device) >= self.dropout)
        # Under autocast the tower returns bfloat16; lerp, which is exact at 0 and 1, requires one type.
        return torch.lerp(content.to(known.dtype), known, share.unsqueeze(-1))


def how_known(degrees: Int[Tensor, "rows"], links: Links | None) -> Num[Tensor, "rows"]:
    """How much the graph knows of each user or item: its interactions plus the weights of its links."""
    return degrees if links is None else degrees + links.degrees
