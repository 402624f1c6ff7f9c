"""Distillation from warm items' collaborative vectors to content vectors; the teacher is trained at the same time.

Like those of `recgraph.objectives.content`, these objectives need an encoder that has both vectors of an item
(`Encoding.sides`). Papers train and freeze the teacher first; here the student's loss sends no gradient to the teacher,
which is equivalent once the teacher has converged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recgraph.encoders.base import graph_of, lookup
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.models.recommender import Recommender
from recgraph.objectives.base import Objective, masked_mean, negatives_of
from recgraph.objectives.content import sides_of
from recgraph.objectives.contrastive import distinct
from recgraph.registry import objectives
from recgraph.types import Batch, Ego, Encoding, Fraction, NonNegativeFloat, PositiveFloat


@objectives.register("content_distance")
class ContentDistance(Objective):
    """Mean over the batch's distinct items of ‖gᵢ - cᵢ‖², whose gradient goes to the content vectors alone.

    The similarity constraint of Heater (Zhu et al., "Recommendation for new users and new items via randomized training
    and mixture-of-experts transformation", SIGIR 2020, https://doi.org/10.1145/3397271.3401178). Its randomized
    training is `hybrid`'s `dropout`, its experts are `experts`, and its start from a trained factorisation is `init`;
    its own loss, the squared error of the factorisation's scores, is left to the objective that ranks. The authors'
    code sums over the rows of a batch.
    """

    needs = frozenset({"distinct"})
    compares_sides = True
    of_vectors = True

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class."""
        known, content = sides_of(encoding, recommender, "content_distance")
        items = distinct(batch).items
        apart = known.detach().index_select(0, items) - content.index_select(0, items)
        return apart.square().sum() / max(1, len(items))


class Pairs(Objective):
    """Base class: compares a row's positive with one negative, using both vectors of each item.

    The negative is the first of the row's own set. In a shared set it is the one at the place after the row's (with
    `in_batch`, the next row's positive); rows whose user likes that item are left out.

    Args:
        temperature: what scores are divided by; 1 for `dot`, less for `cosine`.
        head: name of the head whose scores are compared.
    """

    needs = frozenset({"negatives"})
    compares_sides = True

    def __init__(self, *, temperature: PositiveFloat = 1.0, head: str = "rank") -> None:
        super().__init__()
        self.temperature, self.head = temperature, head

    def scores(
        self, recommender: Recommender, query: Float[Tensor, "batch dim"], table: Tensor, items: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch"]:
        """The score of each row's query with its item in `items`, whose vector is in `table`."""
        encoding = Encoding(query, table, Ego(None, table))
        scores = recommender.score(encoding, items.unsqueeze(-1), head=self.head).squeeze(-1)
        return scores.to(torch.promote_types(scores.dtype, torch.float32)) / self.temperature

    @contextmanager
    def frozen_head(self, recommender: Recommender) -> Iterator[None]:
        """Scores computed within the block send no gradient to the head's weights."""
        weights = [weight for weight in recommender.head(self.head).parameters() if weight.requires_grad]
        try:
            for weight in weights:
                weight.requires_grad_(False)
            yield
        finally:
            for weight in weights:
                weight.requires_grad_(True)


@objectives.register("aldi")
class ALDI(Pairs):
    """Content vectors c (student) learn to rate, rank and discriminate items as collaborative vectors g (teacher) do.

        softplus(-Δᶜ) + α BCE(Δᶜ, σ(Δᵍ)) + β BCE(Iᶜ, σ(Iᵍ)) + γ (|sᵍᵤᵢ - sᶜᵤᵢ| + |sᵍᵤⱼ - sᶜᵤⱼ|)

    with Δ = sᵤᵢ - sᵤⱼ of user u, positive i and negative j, and I = ⟨xᵢ, xᵢ⟩ - meanⱼ ⟨xᵢ, xⱼ⟩ over the batch's
    negatives. Huang et al., "Aligning distillation for cold-start item recommendation", SIGIR 2023,
    https://doi.org/10.1145/3539618.3591732, in the form of the authors' code (https://github.com/zfnWong/ALDI,
    cold_start/ALDI.py). Gradients go to the content vectors alone: the objective `rank` has to train the rest. It
    trains the teacher alone, as theirs does, if `hybrid` has no `dropout` or `shrinkage`; with them, the student too.

    A difference: their student passes users through a network of its own, which scores cold items only; here a user has
    one vector for all items.

    Args:
        alpha, beta, gamma: α, β and γ; 0.9, 0.05 and 0.1 in the authors' settings.
        qualify: M; the α and β terms of a row are multiplied by tanh(min(M, M · f / f̄)), where f is the sum of
            `1 / degree` over the item's users and f̄ = users / items. 0 weighs all rows alike, the default of their
            code; their M is 4.
        temperature, head: see `Pairs`.
    """

    needs = frozenset({"negatives", "graph"})

    def __init__(
        self,
        *,
        alpha: NonNegativeFloat = 0.9,
        beta: NonNegativeFloat = 0.05,
        gamma: NonNegativeFloat = 0.1,
        qualify: NonNegativeFloat = 0.0,
        temperature: PositiveFloat = 1.0,
        head: str = "rank",
    ) -> None:
        super().__init__(temperature=temperature, head=head)
        self.alpha, self.beta, self.gamma, self.qualify = alpha, beta, gamma, qualify
        self._found: tuple[BipartiteGraph, Tensor] | None = None

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class."""
        known, content = sides_of(encoding, recommender, "aldi")
        query, known, items = encoding.query.detach(), known.detach(), batch.items
        negatives, mask = one_negative(batch)
        with self.frozen_head(recommender):
            told, made = (
                [self.scores(recommender, query, table, some) for some in (items, negatives)]
                for table in (known, content)
            )
        rank = _same(made[0] - made[1], told[0] - told[1])
        apart = _same(_apart(content, items, negatives, mask), _apart(known, items, negatives, mask))
        rate = (told[0] - made[0]).abs() + (told[1] - made[1]).abs()
        aligned = (self.alpha * rank + self.beta * apart) * self._qualified(batch)
        return masked_mean(F.softplus(made[1] - made[0]) + aligned + self.gamma * rate, mask)

    def _qualified(self, batch: Batch) -> Tensor | float:
        """The weight of each row by how far its positive can be trusted as a teacher; see `qualify`."""
        if not self.qualify:
            return 1.0
        graph = graph_of(batch.inputs, self)
        if self._found is None or self._found[0] is not graph:
            shares = graph.user_degrees.clamp(min=1).float().reciprocal().index_select(0, graph.users)
            found = torch.zeros(graph.num_items, device=shares.device).index_add_(0, graph.items, shares)
            trusted = (found * graph.num_items / graph.num_users).clamp(max=1)
            self._found = graph, (self.qualify * trusted).tanh()
        return self._found[1].index_select(0, batch.items)


@objectives.register("gar")
class GAR(Pairs):
    """Content vectors c learn to pass for collaborative ones g, while the recommender learns to tell them apart.

        of c alone:       (1 - α) softplus(sᵍᵤᵢ - sᶜᵤᵢ) + α mean |gᵢ - cᵢ|
        of all but c:     softplus(-(sᵍᵤᵢ - (1 - β) sᶜᵤᵢ - β sᵍᵤⱼ))

    for user u, positive i and negative j; both losses are minimised in the same step. Chen et al., "Generative
    adversarial framework for cold-start item recommendation", SIGIR 2022, https://doi.org/10.1145/3477495.3531897, in
    the form of the authors' code (https://github.com/zfnWong/GAR, GAR/GAR.py), which alternates between them. Their
    recommender is a network over fixed, pretrained vectors; here it is the encoder itself, so no other objective is
    needed, though a ranking objective helps. Both vectors are taken before `hybrid` mixes them, so its `dropout` and
    `shrinkage` do not affect items here.

    Args:
        alpha: α, in [0, 1); 0.05 in ColdRec's settings for CiteULike.
        beta: β, in [0, 1); 0.1 there.
        temperature, head: see `Pairs`.
    """

    def __init__(
        self, *, alpha: Fraction = 0.05, beta: Fraction = 0.1, temperature: PositiveFloat = 1.0, head: str = "rank"
    ) -> None:
        super().__init__(temperature=temperature, head=head)
        self.alpha, self.beta = alpha, beta

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class."""
        known, content = sides_of(encoding, recommender, "gar")
        query, items = encoding.query, batch.items
        negatives, mask = one_negative(batch)

        def score(query: Tensor, table: Tensor, some: Tensor = items) -> Tensor:
            return self.scores(recommender, query, table, some)

        still = query.detach(), known.detach()
        distance = (lookup(still[1], items) - lookup(content, items)).abs().mean(-1)
        with self.frozen_head(recommender):
            passes = F.softplus(score(*still) - score(still[0], content))
        false, true = score(query, content.detach()), score(query, known)
        tells = F.softplus((1 - self.beta) * false + self.beta * score(query, known, negatives) - true)
        return masked_mean((1 - self.alpha) * passes + self.alpha * distance + tells, mask)


def one_negative(batch: Batch) -> tuple[Int[Tensor, "batch"], Bool[Tensor, "batch"] | None]:
    """A negative for each row, chosen as described in `Pairs`, and the mask of rows that count."""
    negatives = negatives_of(batch)
    if batch.hits is None:
        return negatives[:, 0], batch.mask
    sets, width = negatives.shape
    rows = torch.arange(len(batch.items), device=batch.items.device)
    run = -(-len(rows) // sets)
    place = (rows % run + 1) % width
    flat = rows % run * width + place
    liked = torch.cat([torch.isin(part, hits) for part, hits in zip(flat.split(run), batch.hits, strict=True)])
    return negatives[rows // run, place], ~liked if batch.mask is None else ~liked & batch.mask


def _same(logits: Float[Tensor, "batch"], teacher: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """Binary cross-entropy of the student's logits against the teacher's probabilities."""
    return F.binary_cross_entropy_with_logits(logits, teacher.sigmoid(), reduction="none")


def _apart(
    table: Float[Tensor, "items dim"], items: Tensor, negatives: Tensor, mask: Bool[Tensor, "batch"] | None
) -> Float[Tensor, "batch"]:
    """⟨xᵢ, xᵢ⟩ minus the mean of ⟨xᵢ, xⱼ⟩ over j, computed as the product with the mean of the xⱼ."""
    own, others = lookup(table, items), lookup(table, negatives)
    mean = others.mean(0) if mask is None else (others * mask[:, None]).sum(0) / mask.sum().clamp(min=1)
    return (own * own).sum(1) - own @ mean
