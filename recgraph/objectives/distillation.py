"""Objectives by which what is known of warm items teaches what is made of content; the teacher is trained along.

Like those of `recgraph.objectives.content` they want an encoder that has both vectors of an item (`Encoding.sides`).
Papers freeze a trained teacher first; here no gradient of what a student learns goes into its teacher, which is the
same once the teacher has settled.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recgraph.encoders.base import graph_of, lookup
from recgraph.objectives.base import Objective, masked_mean
from recgraph.objectives.content import sides_of
from recgraph.objectives.contrastive import distinct
from recgraph.recommender import Recommender
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
        return (known.detach().index_select(0, items) - content.index_select(0, items)).square().sum(1).mean()


class Pairs(Objective):
    """What compares a row's positive with one negative, by both vectors of each.

    The negative is the first of the row's own set. Of a set that rows share it is the one at the place after the row's
    (with `in_batch`, the next row's positive); rows whose user likes that are left out.

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
        """Of each row with one item, whose vectors are in `table`."""
        encoding = Encoding(query, table, Ego(None, table))
        return recommender.score(encoding, items.unsqueeze(-1), head=self.head).squeeze(-1) / self.temperature


@objectives.register("aldi")
class ALDI(Pairs):
    """Content vectors c, the student, learn to rate, rank and tell apart as collaborative ones g, the teacher, do.

        softplus(-Δᶜ) + α BCE(Δᶜ, σ(Δᵍ)) + β BCE(Iᶜ, σ(Iᵍ)) + γ (|sᵍᵤᵢ - sᶜᵤᵢ| + |sᵍᵤⱼ - sᶜᵤⱼ|)

    with Δ = sᵤᵢ - sᵤⱼ of user u, positive i and negative j, and I = ⟨xᵢ, xᵢ⟩ - meanⱼ ⟨xᵢ, xⱼ⟩ over the batch's
    negatives. Huang et al., "Aligning distillation for cold-start item recommendation", SIGIR 2023,
    https://doi.org/10.1145/3539618.3591732, in the form of the authors' code (https://github.com/zfnWong/ALDI,
    cold_start/ALDI.py). Gradients go to the content vectors alone: `rank` has to train the rest. It trains the teacher
    alone, as in theirs, where `hybrid` has neither `dropout` nor `shrinkage`; with them it trains the student along.

    Where it is otherwise: their students see users through a network of their own, which scores cold items only; here a
    user has one vector for all items.

    Args:
        alpha, beta, gamma: as above; 0.9, 0.05 and 0.1 in the authors' settings.
        qualify: M, by which the terms of α and β of a row are weighted with tanh(min(M, M · f / f̄)), where f is the sum
            over the item's users of 1 / degree and f̄ = users / items; 0 weighs all alike, as their code does unless
            asked. Theirs is 4.
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

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class."""
        known, content = sides_of(encoding, recommender, "aldi")
        query, known, items = encoding.query.detach(), known.detach(), batch.items
        negatives, mask = one_negative(batch)
        told, made = (
            [self.scores(recommender, query, table, some) for some in (items, negatives)] for table in (known, content)
        )
        rank = _same(made[0] - made[1], told[0] - told[1])
        apart = _same(_apart(content, items, negatives, mask), _apart(known, items, negatives, mask))
        rate = (told[0] - made[0]).abs() + (told[1] - made[1]).abs()
        aligned = (self.alpha * rank + self.beta * apart) * self._qualified(batch)
        return masked_mean(F.softplus(made[1] - made[0]) + aligned + self.gamma * rate, mask)

    def _qualified(self, batch: Batch) -> Tensor | float:
        """How far each row's positive is to be trusted as a teacher."""
        if not self.qualify:
            return 1.0
        graph = graph_of(batch.inputs, self)
        shares = graph.user_degrees.clamp(min=1).float().reciprocal().index_select(0, graph.users)
        found = torch.zeros(graph.num_items, device=shares.device).index_add_(0, graph.items, shares)
        trusted = (found * graph.num_items / graph.num_users).clamp(max=1)
        return (self.qualify * trusted).tanh().index_select(0, batch.items)


@objectives.register("gar")
class GAR(Pairs):
    """Content vectors c that pass for collaborative ones g, against a recommender that learns to tell.

        of c alone:       (1 - α) softplus(sᵍᵤᵢ - sᶜᵤᵢ) + α mean |gᵢ - cᵢ|
        of all but c:     softplus(-(sᵍᵤᵢ - (1 - β) sᶜᵤᵢ - β sᵍᵤⱼ))

    of user u, positive i and negative j; both are minimised in the same step. Chen et al., "Generative adversarial
    framework for cold-start item recommendation", SIGIR 2022, https://doi.org/10.1145/3477495.3531897, in the form of
    the authors' code (https://github.com/zfnWong/GAR, GAR/GAR.py), which takes turns. Their recommender is a network
    over trained vectors that are fixed; here it is the encoder itself, so the objective needs no other beside it,
    though one that ranks does it good. Both vectors are those from before `hybrid` mixes them: of items, its
    `dropout` and `shrinkage` change nothing here.

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
        passes = F.softplus(score(*still) - score(still[0], content))
        false, true = score(query, content.detach()), score(query, known)
        tells = F.softplus((1 - self.beta) * false + self.beta * score(query, known, negatives) - true)
        return masked_mean((1 - self.alpha) * passes + self.alpha * distance + tells, mask)


def one_negative(batch: Batch) -> tuple[Int[Tensor, "batch"], Bool[Tensor, "batch"] | None]:
    """A negative for each row, as `Pairs` says, and which rows count."""
    assert batch.negatives is not None  # `needs` has them built
    if batch.hits is None:
        return batch.negatives[:, 0], batch.mask
    sets, width = batch.negatives.shape
    rows = torch.arange(len(batch.items), device=batch.items.device)
    run = -(-len(rows) // sets)
    place = (rows % run + 1) % width
    flat = rows % run * width + place
    liked = torch.cat([torch.isin(part, hits) for part, hits in zip(flat.split(run), batch.hits, strict=True)])
    return batch.negatives[rows // run, place], ~liked if batch.mask is None else ~liked & batch.mask


def _same(logits: Float[Tensor, "batch"], teacher: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """Cross-entropy of a student's choice with its teacher's."""
    return F.binary_cross_entropy_with_logits(logits, teacher.sigmoid(), reduction="none")


def _apart(
    table: Float[Tensor, "items dim"], items: Tensor, negatives: Tensor, mask: Bool[Tensor, "batch"] | None
) -> Float[Tensor, "batch"]:
    """⟨xᵢ, xᵢ⟩ less the mean of ⟨xᵢ, xⱼ⟩, which is the product with the mean of the xⱼ."""
    own, others = lookup(table, items), lookup(table, negatives)
    mean = others.mean(0) if mask is None else (others * mask[:, None]).sum(0) / mask.sum().clamp(min=1)
    return (own * own).sum(1) - own @ mean
