"""Contrastive losses on sequences: two encodings of one history should be more alike than those of different histories.

All objectives here use the normalised temperature-scaled cross-entropy among 2B vectors, a pair for each of B rows:

    mean over the 2B of  -ln ( exp(⟨a, a'⟩ / τ) / Σ_c exp(⟨a, c⟩ / τ) )

where a' is the other vector of the pair and c runs over all vectors but a itself.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from recgraph.encoders.base import Encoder
from recgraph.encoders.sequential import SequenceEncoder
from recgraph.models.recommender import Recommender
from recgraph.numerics.matmul import inner_products, unit
from recgraph.objectives.base import Objective, after_history
from recgraph.objectives.info_nce import Similarity
from recgraph.objectives.rows import mean_over_rows
from recgraph.objectives.softmax import cross_entropy
from recgraph.registry import objectives
from recgraph.types import Batch, Ego, Encoding, Inputs, PositiveFloat, View
from recgraph.views.sequence import lengths

PARTS = 4
"""See `by_length`. On Beauty, a step of DuoRec took 182 ms of one CPU thread's time with one part, 140 with two, 114
with four and 123 with eight."""


@objectives.register("sequence_contrast")
class SequenceContrast(Objective):
    """Contrast between two views of each history, whose vectors are the queries after the last step.

    With the view `crop_mask_reorder` this is CL4SRec (Xie et al., ICDE 2022, https://arxiv.org/abs/2010.14395). Without
    a view the two vectors differ by dropout, as in the unsupervised part of DuoRec (Qiu et al., "Contrastive learning
    for representation degeneration problem in sequential recommendation", WSDM 2022, https://arxiv.org/abs/2110.05730).
    Without a view, the shared encoding is reused as one of the two if it has the same queries.

    Args:
        temperature: τ (1 in DuoRec's settings).
        similarity: inner product (DuoRec's setting), or cosine.
        view: drawn twice in each step; None for dropout alone.
    """

    needs = frozenset({"generator"})
    task = None
    compares_histories = True

    def __init__(
        self, *, temperature: PositiveFloat = 1.0, similarity: Similarity = "dot", view: View | None = None
    ) -> None:
        super().__init__()
        self.temperature, self.similarity, self.view = temperature, similarity, view

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class; masked rows are in no pair."""
        inputs = after_history(batch.inputs, recommender.encoder)
        one, two = self.pair(recommender, batch, inputs, encoding)
        if batch.mask is not None and batch.inputs.positions is None:
            one, two = one[batch.mask], two[batch.mask]
        return nt_xent(one, two, temperature=self.temperature, similarity=self.similarity)

    def pair(
        self, recommender: Recommender, batch: Batch, inputs: Inputs, encoding: Encoding
    ) -> tuple[Float[Tensor, "rows dim"], Float[Tensor, "rows dim"]]:
        """The two vectors of each row of `inputs`, which request the query after the last step."""
        if self.view is None:
            return self.unchanged(recommender, batch, inputs, encoding), recommender.encoder(inputs).query
        if batch.generator is None:
            raise ValueError(f"{type(self).__name__} draws views: give Batch a `generator` on the device of its inputs")
        one, two = (recommender.encoder(self.view(inputs, batch.generator)).query for _ in range(2))
        return one, two

    def unchanged(self, recommender: Recommender, batch: Batch, inputs: Inputs, encoding: Encoding) -> Tensor:
        """Queries of `inputs` as they are."""
        return encoding.query if batch.inputs.positions is None else recommender.encoder(inputs).query


@objectives.register("same_target_contrast")
class SameTargetContrast(SequenceContrast):
    """Contrast between two histories that are followed by the same item: the supervised part of DuoRec.

    See `sequence_contrast`. It needs `sequences: {targets: last}`. In the authors' setting "us_x" the history is
    encoded once more, with other dropout; here its vector is the query used for ranking. As there, rows of a batch with
    the same target are still negatives of each other.

    Args:
        temperature: τ.
        similarity: inner product, or cosine.
    """

    needs = frozenset({"partners"})

    def __init__(self, *, temperature: PositiveFloat = 1.0, similarity: Similarity = "dot") -> None:
        super().__init__(temperature=temperature, similarity=similarity)

    def pair(self, recommender: Recommender, batch: Batch, inputs: Inputs, encoding: Encoding) -> tuple[Tensor, Tensor]:
        """See the class."""
        if batch.partners is None:
            raise ValueError("same_target_contrast: give Batch `partners`, histories before the same items")
        mine = self.unchanged(recommender, batch, inputs, encoding)
        return mine, by_length(recommender.encoder, replace(inputs, history=batch.partners))


def by_length(encoder: Encoder, inputs: Inputs) -> Float[Tensor, "rows dim"]:
    """The queries after histories of all lengths, in `PARTS` of similar length, as most of a batch would be padding."""
    assert isinstance(encoder, SequenceEncoder)  # for the type checker: no other has histories
    history = encoder.history(inputs)
    count, order = lengths(history).sort(stable=True)
    catalogue, found = encoder.catalogue(inputs), []
    for length, rows in zip(count.chunk(PARTS), order.chunk(PARTS), strict=True):
        part = replace(inputs, users=inputs.users[rows], history=history[rows, -max(int(length[-1]), 1) :])
        found.append(encoder.query(part, replace(catalogue, query=catalogue.query[rows])))
    return torch.cat(found)[order.argsort()]


def nt_xent(
    one: Float[Tensor, "rows dim"],
    two: Float[Tensor, "rows dim"],
    *,
    temperature: float,
    similarity: Similarity,
) -> Float[Tensor, ""]:
    """The mean of the module's cross-entropy; 0 for a single pair. Processes the vectors in chunks."""
    vectors, count = torch.cat([one, two]), len(one)
    if similarity == "cosine":
        vectors = unit(vectors)
    other = torch.arange(2 * count, device=vectors.device).roll(count)

    def losses(part: Batch, encoding: Encoding) -> Tensor:
        logits = inner_products(encoding.query, encoding.items)
        itself = (part.items + count) % (2 * count)
        logits = logits.scatter(1, itself[:, None], torch.finfo(logits.dtype).min)
        return cross_entropy(logits, part.items, temperature)

    return mean_over_rows(
        losses, Batch(Inputs(other), other), Encoding(vectors, vectors, Ego(None, vectors)), width=2 * count
    )
