"""A contrastive loss between vectors and the centroids of their clusters.

Lin et al., "Improving graph collaborative filtering with neighborhood-enriched contrastive learning" (NCL), WWW 2022,
https://arxiv.org/abs/2202.06200, section 3.3. Similar nodes are neighbours even if no path joins them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recgraph.errors import ConfigError
from recgraph.models.recommender import Recommender
from recgraph.objectives.contrastive import Contrast, distinct
from recgraph.objectives.kmeans import Clusters, chosen, kmeans
from recgraph.registry import objectives
from recgraph.types import Batch, Encoding, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


@objectives.register("prototype_contrast")
class PrototypeContrast(Contrast):
    """InfoNCE between a node's layer 0, e, and the prototype c of its cluster, against all k prototypes.

        mean over e of  -ln ( exp(cos(e, c) / τ) / Σ_k exp(cos(e, c_k) / τ) )

    Prototypes are k-means centroids of layer 0, separate for users and items, computed before an epoch (E-step) and
    constant in its steps (M-steps). As in the authors' code, distances are Euclidean and similarity is the cosine.

    Unlike in their code, k-means starts from its previous prototypes and not from newly drawn vectors, so that few
    iterations suffice, and a node counts once in a batch. Their loss is a sum over the rows of a batch: to convert,
    multiply their weight by their batch size, 4096.

    Args:
        temperature: τ (0.05 to 0.1 in NCL).
        clusters: number of user prototypes, and of item prototypes (10 to 2000 in NCL's settings).
        warm_up: epochs at the start without prototypes, in which the loss is 0 (20 in NCL's code).
        refresh: epochs from one E-step to the next (1 in NCL's code).
        iterations: of k-means in an E-step (25 in NCL's code, from scratch).
        user_weight: of the users' mean.
        item_weight: of the items' mean.
    """

    compares_tables = True

    def __init__(
        self,
        *,
        temperature: PositiveFloat = 0.1,
        clusters: PositiveInt = 1000,
        warm_up: NonNegativeInt = 20,
        refresh: PositiveInt = 1,
        iterations: PositiveInt = 5,
        user_weight: NonNegativeFloat = 1.0,
        item_weight: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(temperature, user_weight, item_weight, None)
        self.clusters, self.warm_up, self.refresh, self.iterations = clusters, warm_up, refresh, iterations
        self._begun = False
        self._found: tuple[Clusters, ...] = ()  # of users and items; no buffers, for only data tell their sizes

    def begin_epoch(self, recommender: Recommender, epoch: int, generator: torch.Generator | None) -> None:
        """Run the E-step if one is due.

        Raises:
            ConfigError: the encoder has no vectors of users, or there are fewer users or items than clusters.
        """
        self._begun = True
        self._found = tuple(found.to(recommender.device) for found in self._found)  # a checkpoint's are on the CPU
        encoder = recommender.encoder
        for count, kind in ((encoder.num_users, "users"), (encoder.num_items, "items")):
            if count < self.clusters:
                raise ConfigError(f"prototype_contrast: clusters is {self.clusters}, but there are {count} {kind}")
        if epoch <= self.warm_up or (epoch - self.warm_up - 1) % self.refresh:
            return
        training = recommender.training
        with torch.no_grad():
            ego = recommender.eval().encode_all().ego  # dropout would move the vectors that are clustered
        recommender.train(training)
        if ego.query is None:
            raise ConfigError(f"prototype_contrast: {type(encoder).__name__} has no vectors of users")
        tables = ego.query, ego.items
        if self._found:
            starts = [found.centroids for found in self._found]
        elif generator is None:
            raise ValueError("PrototypeContrast draws where k-means starts: give begin_epoch a `generator`")
        else:
            starts = [chosen(table, self.clusters, generator) for table in tables]
        self._found = tuple(kmeans(table, start, self.iterations) for table, start in zip(tables, starts, strict=True))

    def get_extra_state(self) -> Any:
        """The prototypes, for checkpoints."""
        return [tuple(found) for found in self._found]

    def set_extra_state(self, state: Any) -> None:
        """The prototypes, from a checkpoint."""
        self._found = tuple(Clusters(*found) for found in state)

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """See the class; only layer 0 of the shared encoding is read."""
        if not self._begun:
            raise ValueError("PrototypeContrast clusters before an epoch: call begin_epoch")
        query, table = encoding.ego
        if not self._found or query is None:
            return table[:0].sum()
        rows, items = distinct(batch)
        users = batch.inputs.users.index_select(0, rows)
        of_users, of_items = self._found
        return self.contrast(
            (query.index_select(0, rows), table.index_select(0, items)),
            (of_users.centroids, of_items.centroids),
            (of_users.places.index_select(0, users), of_items.places.index_select(0, items)),
        )
