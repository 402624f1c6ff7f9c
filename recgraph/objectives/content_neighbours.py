"""A contrastive loss that attracts items to those with the most similar content."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from recgraph.baselines.content_knn import nearest_warm
from recgraph.encoders.base import graph_of, lookup
from recgraph.errors import ConfigError
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.models.recommender import Recommender
from recgraph.numerics.matmul import inner_products, unit
from recgraph.objectives.base import Objective
from recgraph.objectives.contrastive import distinct
from recgraph.objectives.rows import mean_over_rows
from recgraph.objectives.softmax import Softmax
from recgraph.registry import objectives
from recgraph.types import Batch, Content, Ego, Encoding, Inputs, PositiveFloat, PositiveInt


class Neighbours(NamedTuple):
    """The neighbours of each item.

    Attributes:
        items: indices of the neighbours, in order; the remaining places hold the item's own index.
        counts: the number of neighbours.
    """

    items: Int[Tensor, "items most"]
    counts: Int[Tensor, "items"]


@objectives.register("content_neighbours")
class ContentNeighbours(Objective):
    """InfoNCE between an item of the batch and one of its neighbours in content, against the batch's other items.

        mean over i of  -ln ( exp(cos(eᵢ, eₙ) / τ) / (exp(cos(eᵢ, eₙ) / τ) + Σⱼ exp(cos(eᵢ, eⱼ) / τ)) )

    n is one of the k items with training interactions whose content is most similar to i's (the cosine of all
    modalities, as in `content_knn`), drawn uniformly in each step, in the batch or not. j runs over the batch's
    distinct items except i and its k neighbours, so that no step repels what another attracts. Items without neighbours
    do not count.

    Neighbours are positives in NNCLR too (Dwibedi et al., "With a little help from my friends", ICCV 2021,
    https://arxiv.org/abs/2104.14548), where they are nearest among the learned vectors; here they are found with the
    first batch and then fixed. The vectors e are the encoder's, for any encoder that reads content.

    Args:
        temperature: τ.
        neighbours: k; an item has fewer if fewer have a cosine above 0.
    """

    needs = frozenset({"content", "distinct", "generator", "graph"})
    task = None

    def __init__(self, *, temperature: PositiveFloat = 0.2, neighbours: PositiveInt = 10) -> None:
        super().__init__()
        self.softmax, self.neighbours = Softmax(temperature=temperature), neighbours
        self._found: tuple[Content, BipartiteGraph, Neighbours] | None = None

    def near(self, content: Content, graph: BipartiteGraph) -> Neighbours:
        """Each item's neighbours; cached until called with other content or another graph."""
        if self._found is None or self._found[0] is not content or self._found[1] is not graph:
            self._found = content, graph, padded(content, graph.item_degrees > 0, self.neighbours)
        return self._found[2]

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class.

        Raises:
            ConfigError: items have no content, or their content is not vectors.
            TypeError: the batch's inputs have no graph.
        """
        content = batch.inputs.content
        if content is None or not content.items:
            name = type(recommender.encoder).__name__
            raise ConfigError(f"content_neighbours compares items by content, and {name} is given none of items")
        if batch.generator is None:
            raise ValueError("ContentNeighbours draws neighbours: give Batch a `generator` on the device of its inputs")
        items = distinct(batch).items
        num, rows = len(items), torch.arange(len(items), device=items.device)
        near, counts = (part.index_select(0, items) for part in self.near(content, graph_of(batch.inputs, self)))
        chances = torch.rand(num, generator=batch.generator, device=items.device)
        # The product may be rounded up to the count.
        place = torch.minimum((chances * counts).long(), counts - 1).clamp(min=0)
        drawn = near.gather(1, place.unsqueeze(1)).squeeze(1)
        # Where the neighbours stand in the batch; the item itself, where they do not.
        stands = torch.full((len(encoding.items),), -1, device=items.device).index_copy_(0, items, rows)
        found = stands.index_select(0, near.flatten()).view(near.shape)
        left_out = torch.cat([rows.unsqueeze(1), torch.where(found < 0, rows.unsqueeze(1), found)], dim=1)

        def losses(part: Batch, encoding: Encoding) -> Tensor:
            assert part.negatives is not None
            logits = inner_products(encoding.query, encoding.items[:num])
            starts = torch.arange(len(logits), device=logits.device) * num
            positives = (encoding.query * lookup(encoding.items, part.items)).sum(-1, keepdim=True)
            return self.softmax.row_losses(positives, logits, (starts.unsqueeze(1) + part.negatives).flatten(), num)

        # To `mean_over_rows`, anchors are queries; the catalogue is the batch's items, then the positives.
        anchors, positives = (unit(encoding.items.index_select(0, some)) for some in (items, drawn))
        table = torch.cat([anchors, positives])
        return mean_over_rows(
            losses,
            Batch(Inputs(items), num + rows, left_out, mask=counts > 0),
            Encoding(anchors, table, Ego(None, table)),
            width=num,
        )


def padded(content: Content, warm: Bool[Tensor, "items"], count: int) -> Neighbours:
    """The neighbours from `nearest_warm` as a padded table, on the device of `warm`; on CUDA the host waits."""
    with torch.autocast("cpu", enabled=False):  # they are kept for the whole run
        near = nearest_warm(content.to("cpu"), warm.cpu(), count)
    counts = near.starts.diff().long()
    rows = torch.repeat_interleave(counts)
    items = torch.arange(len(counts)).unsqueeze(1).repeat(1, max(1, int(counts.max())))
    items[rows, torch.arange(len(rows)) - near.starts.long()[rows]] = near.columns.long()
    return Neighbours(items.to(warm.device), counts.to(warm.device))
