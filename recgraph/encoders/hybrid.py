"""Graph vectors for those who are known, content vectors for those who are new, in one space and of one length.

Volkovs et al., "DropoutNet: Addressing cold start in recommender systems", NIPS 2017 (`dropout`); Wei et al.,
"Contrastive learning for cold-start recommendation", MM 2021, https://arxiv.org/abs/2107.05315 (what attracts the two
vectors of an item, `recgraph.objectives.content`).
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
from recgraph.matmul import unit
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
    """Mixes the vector gᵢ that another encoder gives an item with the vector cᵢ of its content, by how much is known.

        eᵢ = (nᵢ gᵢ + k cᵢ) / (nᵢ + k),   cᵢ = ḡ · tower(xᵢ) / ‖tower(xᵢ)‖

    nᵢ is its number of training interactions: a cold item has cᵢ alone, and with k = 0 a warm one gᵢ alone. Where the
    graph has links, their weights count too, for a cold item with links has neighbours: then k says how much of its
    content is left to it. Users who have modalities are mixed alike. A side without any keeps the other encoder's
    vectors.

    One list of all items is fair only if a cold item's scores are as large as a warm one's. So content vectors are as
    long as warm items' vectors are in the mean (ḡ, through which no gradient goes). That is for heads to which length
    matters, like `dot`; for `cosine` it does not. Directions have to be matched too, by training: `dropout` shows the
    objectives warm items as if they were cold, side by side with others, and `clcrec` does so pair by pair.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
        content: the modalities; only their widths are read.
        graph: the encoder of those who are known, whatever it reads beside the graph; its `dim` is this one's.
        hidden: width of the towers' hidden layer; 0 for linear towers.
        tower_dropout: fraction of the hidden layer that is zeroed in training, in [0, 1).
        dropout: chance of a warm item (or user with content) to be taken for a cold one in a training step, in [0, 1).
            DropoutNet's authors drop half of their inputs on CiteULike.
        experts, fusion: networks of each tower, and how modalities become one; see `Tower`. Heater has 5 on CiteULike.
        shrinkage: k, 0 or more: as many interactions as the content is worth.
    """

    reads = frozenset({"graph", "content"})
    linked = True
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
        self.graph, self.dropout, self.shrinkage = graph, dropout, shrinkage

        def tower(modalities: Mapping[str, Modality]) -> Tower:
            return Tower(
                modalities, dim=graph.dim, hidden=hidden, dropout=tower_dropout, experts=experts, fusion=fusion
            )

        self.item_tower = tower(content.items) if content.items else None
        self.user_tower = tower(content.users) if content.users else None

    def forward(self, inputs: Inputs) -> Encoding:
        """Encode with both, and mix; `inputs.perturb` acts on hidden layers of the graph and on content vectors.

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
        """Content vectors, as long as the known rows' vectors are in the mean."""
        warm = degrees > 0
        length = (known.detach().norm(dim=-1) * warm).sum() / warm.sum().clamp(min=1)
        return unit(tower(modalities)) * length

    def _mix(
        self, known: Float[Tensor, "rows dim"], content: Float[Tensor, "rows dim"], degrees: Num[Tensor, "rows"]
    ) -> Float[Tensor, "rows dim"]:
        share = degrees.to(known.dtype) / (degrees + self.shrinkage).clamp(min=1e-9)  # of 0 / 0 for a cold row, 0
        if self.training and self.dropout:
            share = share * (torch.rand(share.shape, device=share.device) >= self.dropout)
        # Under autocast the tower is in bfloat16; lerp, which is exact at 0 and 1, wants one type.
        return torch.lerp(content.to(known.dtype), known, share.unsqueeze(-1))


def how_known(degrees: Int[Tensor, "rows"], links: Links | None) -> Num[Tensor, "rows"]:
    """How much the graph knows of each: its interactions, and the weights of its links."""
    return degrees if links is None else degrees + links.degrees
