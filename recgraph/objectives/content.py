"""Objectives that align an item's collaborative vector with its content vector.

They need an encoder that has both (`Encoding.sides`), such as `hybrid`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.encoders.base import lookup
from recgraph.errors import ConfigError
from recgraph.models.recommender import Recommender
from recgraph.numerics.matmul import inner_products, unit
from recgraph.objectives.base import Objective, negatives_of
from recgraph.objectives.contrastive import distinct
from recgraph.objectives.info_nce import info_nce
from recgraph.objectives.rows import first_order, mean_over_rows
from recgraph.objectives.softmax import Softmax
from recgraph.registry import objectives
from recgraph.types import Batch, Ego, Encoding, Fraction, Inputs, PositiveFloat, Sides

WHOLE_FLOATS = 2**28
"""Most logits that `both_ways` holds in memory at once: those of 16,384 items, 1 GB."""

LEAST_TEMPERATURE = 0.025
"""Below it, logits may differ by more than 80, and exp(-88) is 0 in float32."""

PART_ROWS = 64
"""Rows whose gradient is computed at once, measured with 3,400 logits each: with 256 a step takes a fifth longer."""


@objectives.register("content_contrast")
class ContentContrast(Objective):
    """InfoNCE between the collaborative and the content vectors of the batch's distinct items, both ways.

        mean over i of  -½ ln softmaxⱼ(cos(gᵢ, cⱼ) / τ)[i] - ½ ln softmaxⱼ(cos(cᵢ, gⱼ) / τ)[i]

    The first half is the contrast of items in CLCRec, with the batch's items as negatives; the other half is its mirror
    image, as in CLIP (Radford et al., ICML 2021, https://arxiv.org/abs/2103.00020).

    Args:
        temperature: τ.
        layers: which collaborative vectors g are contrasted with content: "final", the output of the graph encoder, or
            "each", all of its layers from layer 0 on, whose losses are averaged.
    """

    needs = frozenset({"distinct"})
    compares_sides = True
    task = None

    def __init__(self, *, temperature: PositiveFloat = 0.2, layers: Literal["final", "each"] = "final") -> None:
        super().__init__()
        self.temperature, self.layers = temperature, layers

    def inputs(self, inputs: Inputs, batch: Batch) -> Inputs:
        """Ask for layers if they are contrasted."""
        return replace(inputs, every_layer=True) if self.layers == "each" else inputs

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class.

        Raises:
            ConfigError: the encoder does not have two vectors for each item, or has no layers.
        """
        final, content = sides_of(encoding, recommender, "content_contrast")
        if self.layers == "final":
            known = [final]
        elif encoding.layers:
            known = [items for _, items in encoding.layers]
        else:
            name = type(recommender.encoder).__name__
            raise ConfigError(f"content_contrast: layers 'each': {name} has no layers; a hybrid of lightgcn has some")
        items = distinct(batch).items
        own = content.index_select(0, items)
        terms = [both_ways(table.index_select(0, items), own, temperature=self.temperature) for table in known]
        return torch.stack(terms).mean()


@objectives.register("clcrec")
class CLCRec(Objective):
    """λ · contrast of items + (1 - λ) · contrast of users with items, some represented by their content vector.

        items:  -ln softmax(cos(gᵢ, cⱼ) / τ)[i]  over the row's item i and its negatives j
        users:  -ln softmax(s(u, xⱼ) / τ)[i]     over the same; xⱼ is cⱼ with probability ρ, else gⱼ

    Wei et al., "Contrastive learning for cold-start recommendation", MM 2021, https://arxiv.org/abs/2107.05315, in the
    form of the authors' code (https://github.com/weiyinwei/CLCRec, model_CLCRec.py), which draws the items to replace
    with repetition, so that a rate ρ there replaces a slightly smaller share, 1 - exp(-ρ). Its regulariser, a mean of
    norms, is left to `ego_l2`. Negatives should be drawn from warm items (`popularity`, `in_batch`): a cold item that
    is drawn counts as a negative, with its content vector.

    s is the score of `head`, `dot` in the paper. Both item vectors are taken before `hybrid` mixes them, so its
    `dropout` and `shrinkage` do not affect items here; they do affect users who have content, and other objectives.

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
        if batch.generator is None:
            raise ValueError("CLCRec draws what to replace: give Batch a `generator` on the device of its inputs")
        # Row i of the stacked table is item i's collaborative vector, row i + items its content vector.
        num_items = len(known)

        def drawn(items: Int[Tensor, "*rows"]) -> Int[Tensor, "*rows"]:
            chosen = torch.rand(items.shape, generator=batch.generator, device=items.device) < self.rate
            return items + num_items * chosen

        mixed = replace(batch, items=drawn(batch.items), negatives=drawn(negatives_of(batch)))
        users = self._contrast(
            partial(recommender.score, head=self.head),
            mixed,
            _encoding(encoding.query, torch.cat([known, content])),
            tuple(recommender.heads.parameters()),
            recommender.head(self.head).pair_floats,
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
        floats: int = 1,
    ) -> Tensor:
        """The mean over rows of -ln softmax of the row's item against its negatives; a pair keeps `floats` floats."""

        def losses(part: Batch, encoding: Encoding) -> Float[Tensor, "*batch"]:
            assert part.negatives is not None
            negatives, hits = (part.negatives, None) if part.hits is None else (part.negatives[0], part.hits[0])
            positives = score(encoding, part.items.unsqueeze(-1))
            return self.softmax.row_losses(positives, score(encoding, negatives), hits, len(encoding.items))

        num = negatives_of(batch).shape[-1]
        width = num * floats if batch.hits is not None else (1 + num) * max(floats, encoding.items.shape[1])
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


def both_ways(
    one: Float[Tensor, "items dim"], two: Float[Tensor, "items dim"], *, temperature: float
) -> Float[Tensor, ""]:
    """Mean over i of -½ ln softmaxⱼ(cos(oneᵢ, twoⱼ) / τ)[i] - ½ ln softmaxⱼ(cos(twoᵢ, oneⱼ) / τ)[i].

    That is the mean of `info_nce` in both directions, whose logits are the same up to a transposition: they are
    computed once, with one exp, if they fit in memory and cannot underflow. The gradient, which cannot be
    differentiated again, is computed with the value, so that nothing as large as the logits is kept.
    """
    if not len(one):
        return one.sum() + two.sum()
    if len(one) ** 2 > WHOLE_FLOATS or temperature < LEAST_TEMPERATURE:
        targets = torch.arange(len(one), device=one.device)
        ways = [info_nce(*pair, targets, temperature=temperature) for pair in ((one, two), (two, one))]
        return (ways[0] + ways[1]) / 2
    found: Tensor = _BothWays.apply(unit(one) / temperature, unit(two), 1 / temperature)
    return found


class _BothWays(torch.autograd.Function):
    """The loss of `both_ways` from logits ⟨aᵢ, bⱼ⟩, which are at most `peak`."""

    @staticmethod
    def forward(ctx: Any, one: Tensor, two: Tensor, peak: float) -> Tensor:
        logits = inner_products(one, two)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # autocast's are too coarse for sums
        own = logits.diagonal() - peak
        shares = logits.sub_(peak).exp_()
        rows, columns = shares.sum(1), shares.sum(0)
        if any(ctx.needs_input_grad):
            by_row, by_column = ((2 * len(one) * sums).reciprocal() for sums in (rows, columns))
            # In place and by parts, for the factors of all would be as large as the shares.
            for part, factors in zip(shares.split(PART_ROWS), by_row.split(PART_ROWS), strict=True):
                part *= factors.unsqueeze(1) + by_column
            shares.diagonal().sub_(1 / len(one))
            ctx.gradients = tuple(
                gradient.to(vectors.dtype)
                for vectors, gradient in (
                    (one, inner_products(shares, two.to(shares.dtype).T)),
                    (two, inner_products(one.to(shares.dtype).T, shares.T).T),
                )
            )
        return ((rows.log() + columns.log()) / 2 - own).mean()

    @staticmethod
    @first_order
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor, Tensor, None]:
        one, two = ctx.gradients
        return one * arriving, two * arriving, None


def _encoding(query: Tensor, items: Tensor) -> Encoding:
    return Encoding(query, items, Ego(None, items))


def _inner_products(encoding: Encoding, items: Int[Tensor, "*some candidates"]) -> Float[Tensor, "*batch candidates"]:
    """Inner products of each query with its row's own candidates, or with those that all rows share."""
    vectors = lookup(encoding.items, items)
    return (
        inner_products(encoding.query, vectors)
        if items.dim() == 1
        else (encoding.query.unsqueeze(-2) * vectors).sum(-1)
    )
