"""Target attention: the weights of a history's steps depend on the item that is scored.

Zhou et al., "Deep interest network for click-through rate prediction" (DIN), KDD 2018,
https://arxiv.org/abs/1706.06978, section 4.3; the authors' code (https://github.com/zhougr1993/DeepInterestNetwork).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recgraph.heads.base import Head, steps_of
from recgraph.heads.layers import Widths, lecun_uniform, room, xavier_uniform
from recgraph.numerics.matmul import Linear
from recgraph.registry import heads
from recgraph.types import Past

CHUNK_FLOATS = 2**20
"""Floats of the widest layer over pairs of a step and an item that are in memory at once on a CPU: 4 MB per layer."""


@heads.register("din")
class DIN(Head):
    """Attention of the candidate c to the steps s of a history, followed by layers over the result.

        w_s = softmax_s( a(c, s) / √dim ),  v = Σ w_s s,  score = tower([query; v; c; v ⊙ c])

    a is a network over [c; s; c - s; c ⊙ s] with sigmoids, as wide as in the authors' code; the tower has ReLUs. The
    encoder's query takes the place of the paper's user profile. The paper uses a as the weights, unnormalised, so that
    a history may count more or less as a whole; the authors' code has the softmax. Differences from that code
    (din/model.py): its tower has sigmoids and reads v and c alone, without a vector of the user; before the tower, v
    goes through a linear layer; it has batch normalisation and item biases.

    The first layers of a and of the tower are split by input, since a linear layer of [c; s; …] is a sum over the
    parts: what depends on c or s alone is computed once per item or step. Masked items of a history get no weight, and
    a user without history has v = 0.

    Pairs are processed in chunks, also in training, where each chunk is recomputed for its gradient. Each row has a
    copy of its history, so losses go by chunks of rows as well, except where rows share negatives: memory is then that
    of all rows of a set. Without gradients, a catalogue is scored for many queries at once, and equal step vectors are
    handled only once: a costs at most items² · dim · attention[0] multiplications instead of
    users · items · length · dim · attention[0].

    Args:
        dim: width of query, step and item vectors.
        attention: widths of the layers of a.
        hidden: widths of the layers of the tower.
        softmax: False for the weights of the paper, which are a(c, s) itself.
    """

    reads = frozenset({"history"})

    def __init__(
        self, dim: int, *, attention: Widths = (80, 40), hidden: Widths = (80, 40), softmax: bool = True
    ) -> None:
        super().__init__(dim)
        self.softmax, first, wide = softmax, attention[0], hidden[0]
        self.from_item = xavier_uniform(Linear(dim, first), fan_in=4 * dim)
        self.from_step, self.from_difference, self.from_product = (
            xavier_uniform(Linear(dim, first, bias=False), fan_in=4 * dim) for _ in range(3)
        )
        self.attention = _layers(attention, nn.Sigmoid)
        self.query_layer = xavier_uniform(Linear(dim, wide), fan_in=4 * dim)
        self.item_layer, self.found_layer, self.both_layer = (
            xavier_uniform(Linear(dim, wide, bias=False), fan_in=4 * dim) for _ in range(3)
        )
        self.tower = _layers(hidden, nn.ReLU)

    def query_floats(self, past: Past | None) -> int:
        """The steps as they come, and what `prepare_query` makes of them."""
        assert past is not None  # the head reads histories
        return past.history.shape[1] * (2 * self.dim + self.from_item.out_features + 2)

    def prepare_query(self, query: Float[Tensor, "*batch wide"]) -> Tensor:
        """The query's part of the tower; for each step its vector, its part of a, and whether the step exists."""
        own, steps, known = steps_of(query, self.dim)
        parts = self._step_parts(steps)
        return torch.cat([self.query_layer(own), steps.flatten(-2), parts.flatten(-2), known.to(own)], -1)

    def prepare_items(self, items: Float[Tensor, "*batch dim"]) -> Tensor:
        """The item, its part of a, and its part of the tower."""
        return torch.cat([items, self.from_item(items) + self.from_difference(items), self.item_layer(items)], -1)

    def match(self, query: Float[Tensor, "*#batch wide"], items: Float[Tensor, "*#batch width"]) -> Tensor:
        """Scores of aligned pairs, chunk by chunk; a query with several items is not copied for each of them."""
        shape = torch.broadcast_shapes(query.shape[:-1], items.shape[:-1])
        several = query.dim() > 1 and query.shape[-2] == 1
        num = shape[-1] if several else 1
        queries = query.expand(*shape[:-1], 1, -1) if several else query.expand(*shape, -1)
        queries = queries.reshape(-1, 1, query.shape[-1])
        flat = items.expand(*shape, -1).reshape(-1, num, items.shape[-1])
        size = self._pairs(query)
        if shape.numel() <= size:
            return self._scores(queries, flat).view(shape)
        few = max(1, size // num)
        parts = zip(queries.split(few), flat.split(few), strict=True)
        found = [torch.cat([self._chunk(one, some) for some in part.split(size, 1)], 1) for one, part in parts]
        return torch.cat(found).view(shape)

    def match_all(self, query: Float[Tensor, "*batch wide"], items: Float[Tensor, "items width"]) -> Tensor:
        """Chunk by chunk over queries and items; without a gradient, a is computed once per distinct step and item."""
        flat = query.reshape(-1, query.shape[-1])
        if not torch.is_grad_enabled():
            return self._of_catalogue(flat, items).view(*query.shape[:-1], len(items))
        size = self._pairs(query)
        few = max(1, size // max(1, len(items)))
        rows = [
            torch.cat([self._chunk(some.unsqueeze(-2), part) for part in items.split(size)], -1)
            for some in flat.split(few)
        ]
        return torch.cat(rows).view(*query.shape[:-1], len(items))

    def weights(
        self, query: Float[Tensor, "*#batch wide"], items: Float[Tensor, "*#batch dim"]
    ) -> Mapping[str, Float[Tensor, "*batch parts"]]:
        """The weight of each step for each item, [*batch, length]."""
        return {"history": self._attend(self.prepare_query(query), self.prepare_items(items))[0]}

    def _step_parts(self, steps: Tensor) -> Tensor:
        """The steps' part of a's first layer."""
        return self.from_step(steps) - self.from_difference(steps)

    def _pairs(self, query: Tensor) -> int:
        """Number of pairs in a chunk."""
        first, (length, _) = self.from_item.out_features, self._widths(query)
        return max(1, room(query, CHUNK_FLOATS) // (max(1, length) * max(self.dim, first)))

    def _widths(self, query: Tensor) -> tuple[int, list[int]]:
        """The length of the histories in prepared queries, and the widths of a prepared query's parts."""
        first, wide = self.from_item.out_features, self.query_layer.out_features
        length = (query.shape[-1] - wide) // (self.dim + first + 1)
        return length, [wide, length * self.dim, length * first, length]

    def _taken_apart(self, query: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The parts that `prepare_query` concatenated: steps and their parts of a as [*batch, length, width]."""
        length, widths = self._widths(query)
        own, steps, parts, known = query.split(widths, -1)
        return own, steps.unflatten(-1, (length, -1)), parts.unflatten(-1, (length, -1)), known > 0

    def _chunk(self, query: Tensor, items: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return self._scores(query, items)
        # Nothing is drawn at random, so that no generator's state need be kept.
        return checkpoint(self._scores, query, items, use_reentrant=False, preserve_rng_state=False)

    def _logits(self, steps: Tensor, parts: Tensor, items: Tensor) -> Tensor:
        """a of steps, given their parts of its first layer, and prepared items; the leading axes broadcast."""
        item, from_item = items[..., : self.dim], items[..., self.dim : self.dim + parts.shape[-1]]
        return self.attention(parts + from_item + self.from_product(steps * item)).squeeze(-1)

    def _weights(self, logits: Tensor, known: Tensor, axis: int) -> Tensor:
        """The weights of the steps along an axis."""
        if self.softmax:
            # The lowest number and not -inf: a softmax over nothing at all is NaN.
            lowest = torch.finfo(logits.dtype).min
            logits = (logits / self.dim**0.5).masked_fill(~known, lowest).softmax(axis)
        return torch.where(known, logits, 0)

    def _attend(self, query: Tensor, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The weights of steps, the weighted sum v, and the query's part of the tower."""
        own, steps, parts, known = self._taken_apart(query)
        weights = self._weights(self._logits(steps, parts, items.unsqueeze(-2)), known, -1)
        return weights, (weights.unsqueeze(-2) @ steps).squeeze(-2), own

    def _scores(self, query: Tensor, items: Tensor) -> Tensor:
        _, found, own = self._attend(query, items)
        return self._tower(own, found, items)

    def _tower(self, own: Tensor, found: Tensor, items: Tensor) -> Tensor:
        item, from_item = items[..., : self.dim], items[..., -own.shape[-1] :]
        hidden = own + from_item + self.found_layer(found) + self.both_layer(found * item)
        return self.tower(hidden).squeeze(-1)

    def _of_catalogue(self, query: Tensor, items: Tensor) -> Tensor:
        """Scores [batch, items], from a table of a for each distinct step and each item."""
        own, steps, _, known = self._taken_apart(query)
        each, place = steps.flatten(0, 1).unique(dim=0, return_inverse=True)
        parts, place = self._step_parts(each), place.view(known.shape)
        floats = room(query, CHUNK_FLOATS)
        size = max(1, floats // max(1, len(each)))
        columns = []
        for some in items.split(size):
            few = max(1, floats // (len(some) * max(self.dim, parts.shape[-1])))
            pairs = zip(each.unsqueeze(1).split(few), parts.unsqueeze(1).split(few), strict=True)
            table = torch.cat([self._logits(*pair, some) for pair in pairs])
            few = max(1, floats // (len(some) * max(known.shape[1], self.dim, own.shape[-1])))
            rows = []
            for number in range(0, max(1, len(own)), few):
                row = slice(number, number + few)
                logits = table.index_select(0, place[row].flatten()).view(*place[row].shape, len(some))
                weights = self._weights(logits, known[row].unsqueeze(-1), 1)
                rows.append(self._tower(own[row].unsqueeze(1), weights.transpose(1, 2) @ steps[row], some))
            columns.append(torch.cat(rows))
        return torch.cat(columns, -1)


def _layers(widths: Widths, activation: type[nn.Module]) -> nn.Sequential:
    """The layers from the first one's output, before its activation, to a single number."""
    inner = [part for wide, narrow in pairwise(widths) for part in (activation(), xavier_uniform(Linear(wide, narrow)))]
    return nn.Sequential(*inner, activation(), lecun_uniform(nn.Linear(widths[-1], 1)))
