"""Objectives that bring an item's two vectors together: that of who had it, and that of what it is.

They want an encoder that has both (`Encoding.sides`), such as `hybrid`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.encoders.base import lookup
from recgraph.errors import ConfigError
from recgraph.matmul import inner_products, unit
from recgraph.objectives.base import Objective
from recgraph.objectives.contrastive import distinct, info_nce
from recgraph.objectives.rows import mean_over_rows
from recgraph.objectives.softmax import Softmax
from recgraph.recommender import Recommender
from recgraph.registry import objectives
from recgraph.types import Batch, Ego, Encoding, Fraction, PositiveFloat, Sides


@objectives.register("content_contrast")
class ContentContrast(Objective):
    """InfoNCE between the collaborative and the content vectors of the batch's distinct items, both ways.

        mean over i of  -½ ln softmaxⱼ(cos(gᵢ, cⱼ) / τ)[i] - ½ ln softmaxⱼ(cos(cᵢ, gⱼ) / τ)[i]

    The first half is the contrast of items in CLCRec, with the batch's items as negatives; the other half is its mirror
    image, as in CLIP (Radford et al., ICML 2021, https://arxiv.org/abs/2103.00020).

    Args:
        temperature: τ.
    """

    needs = frozenset({"distinct"})
    compares_sides = True
    task = None

    def __init__(self, *, temperature: PositiveFloat = 0.2) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class."""
        items = distinct(batch).items
        known, content = (side.index_select(0, items) for side in sides_of(encoding, recommender, "content_contrast"))
        targets = torch.arange(len(items), device=items.device)
        one, two = (
            info_nce(*pair, targets, temperature=self.temperature) for pair in ((known, content), (content, known))
        )
        return (one + two) / 2


@objectives.register("clcrec")
class CLCRec(Objective):
    """λ · contrast of items + (1 - λ) · contrast of users with items, some of which show their content vector.

        items:  -ln softmax(cos(gᵢ, cⱼ) / τ)[i]  over the row's item i and its negatives j
        users:  -ln softmax(s(u, xⱼ) / τ)[i]     over the same; xⱼ is cⱼ with probability ρ, else gⱼ

    Wei et al., "Contrastive learning for cold-start recommendation", MM 2021, https://arxiv.org/abs/2107.05315, in the
    form of the authors' code (https://github.com/weiyinwei/CLCRec, model_CLCRec.py), which draws what is replaced with
    repetition, so that a rate ρ there replaces a share of 1 - exp(-ρ), a little less. Its regulariser, a mean of norms,
    is `ego_l2`'s matter here. Negatives should be drawn among warm items (`popularity`, `in_batch`): a cold item that
    is drawn counts as negative and shows its content vector.

    s is the score of `head`, `dot` in the paper. Both vectors are those from before `hybrid` mixes them: of items, its
    `dropout` and `shrinkage` change nothing here; they do for users who have content, and for objectives beside this.

    Args:
        temperature: τ of both (2.0 in the authors' settings, with inner products).
        weight_items: λ, in [0, 1) (0.5 there).
        rate: ρ, in [0, 1) (0.5 for MovieLens there, 0.9 for Amazon).
        head: name of the head that scores users and items.
    """

    needs = frozenset({"negatives", "generator"})
    compares_sides = True

    def __init__(
        self,
        *,
        temperature: PositiveFloat = 2.0,
        weight_items: Fraction = 0.5,
        rate: Fraction = 0.5,
        head: str = "rank",
    ) -> None:
        super().__init__()
        self.softmax, self.weight_items, self.rate, self.head = (
            Softmax(temperature=temperature),
            weight_items,
            rate,
            head,
        )

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class."""
        known, content = sides_of(encoding, recommender, "clcrec")
        assert batch.negatives is not None  # `needs` has them built
        if batch.generator is None:
            raise ValueError("CLCRec draws what to replace: give Batch a `generator` on the device of its inputs")
        # Row i of the stacked table is item i's collaborative vector, row i + items its content vector.
        num_items = len(known)

        def drawn(items: Int[Tensor, "*rows"]) -> Int[Tensor, "*rows"]:
            chosen = torch.rand(items.shape, generator=batch.generator, device=items.device) < self.rate
            return items + num_items * chosen

        mixed = replace(batch, items=drawn(batch.items), negatives=drawn(batch.negatives))
        users = self._contrast(
            partial(recommender.score, head=self.head),
            mixed,
            _encoding(encoding.query, torch.cat([known, content])),
            tuple(recommender.heads.parameters()),
        )
        anchors = unit(known).index_select(0, batch.items)
        items = self._contrast(_inner_products, batch, _encoding(anchors, unit(content)))
        return self.weight_items * items + (1 - self.weight_items) * users

    def _contrast(
        self,
        score: Callable[[Encoding, Tensor], Tensor],
        batch: Batch,
        encoding: Encoding,
        parameters: tuple[Tensor, ...] = (),
    ) -> Tensor:
        """The mean over rows of -ln softmax at the row's item, among its negatives."""

        def losses(part: Batch, encoding: Encoding) -> Float[Tensor, "*batch"]:
            assert part.negatives is not None
            negatives, hits = (part.negatives, None) if part.hits is None else (part.negatives[0], part.hits[0])
            positives = score(encoding, part.items.unsqueeze(-1))
            return self.softmax.row_losses(positives, score(encoding, negatives), hits, len(encoding.items))

        assert batch.negatives is not None
        num = batch.negatives.shape[-1]
        width = num if batch.hits is not None else (1 + num) * encoding.items.shape[1]
        return mean_over_rows(losses, batch, encoding, width=width, parameters=parameters)


def sides_of(encoding: Encoding, recommender: Recommender, name: str) -> Sides:
    """The two vectors of each item.

    Raises:
        ConfigError: the encoder has none.
    """
    if encoding.sides is None:
        raise ConfigError(
            f"objective {name} compares collaborative with content vectors, and {type(recommender.encoder).__name__} "
            "does not have both; the encoder hybrid does"
        )
    return encoding.sides


def _encoding(query: Tensor, items: Tensor) -> Encoding:
    return Encoding(query, items, Ego(None, items))


def _inner_products(encoding: Encoding, items: Int[Tensor, "*some candidates"]) -> Float[Tensor, "*batch candidates"]:
    """With each row's own candidates, or with those that all rows share."""
    vectors = lookup(encoding.items, items)
    return (
        inner_products(encoding.query, vectors)
        if items.dim() == 1
        else (encoding.query.unsqueeze(-2) * vectors).sum(-1)
    )
