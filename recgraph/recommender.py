"""A recommender is an encoder plus heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from recgraph import registry
from recgraph.data.histories import Histories
from recgraph.data.interactions import Interactions
from recgraph.encoders.base import Encoder, lookup
from recgraph.encoders.sequential import SequenceEncoder
from recgraph.errors import DataError
from recgraph.files import replacing
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.heads import Head
from recgraph.model import Model, Scorer
from recgraph.types import Encoding, Inputs

PIECE = 128
"""Users whose histories are encoded at once."""


class Recommender(Model):
    """An encoder and its heads.

    Args:
        encoder: makes query and item vectors.
        heads: scores them; the head "rank" ranks the catalogue.
        graph: the training graph, if the encoder reads one.
        spec: the configuration that encoder and heads were built from, so that they can be saved.
    """

    def __init__(
        self,
        encoder: Encoder,
        heads: Mapping[str, Head],
        *,
        graph: BipartiteGraph | None = None,
        spec: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(encoder.num_users, encoder.num_items)
        self.encoder, self.heads = encoder, nn.ModuleDict(heads)
        self.graph, self.spec = graph, spec
        self.histories: Histories | None = None

    @classmethod
    def build(
        cls, num_users: int, num_items: int, spec: Mapping[str, Any], graph: BipartiteGraph | None
    ) -> Recommender:
        """Make encoder and heads from `spec`, a mapping with `encoder` and `heads` as in an experiment file."""
        encoder = registry.encoders.build(spec["encoder"], num_users, num_items, where="encoder")
        heads = {
            name: registry.heads.build(head, encoder.dim, where=f"heads.{name}") for name, head in spec["heads"].items()
        }
        return cls(encoder, heads, graph=graph if "graph" in encoder.reads else None, spec=dict(spec))

    def score(self, encoding: Encoding, items: Tensor | None = None, *, head: str = "rank") -> Tensor:
        """Scores of some items, or of all.

        Args:
            encoding: what the encoder returned for a batch.
            items: indices [*batch, candidates] of each row's own candidates; [candidates] shared by all rows; or
                None for the whole catalogue.
            head: which head scores.

        Returns:
            Scores [*batch, candidates], or [*batch, items].
        """
        scorer = self._head(head)
        query = scorer.prepare_query(encoding.query)
        if items is None:
            return scorer.match_all(query, scorer.prepare_items(encoding.items))
        if items.numel() < len(encoding.items):
            vectors = scorer.prepare_items(lookup(encoding.items, items))
        else:  # a step that reads every item more than once, in the mean
            vectors = lookup(scorer.prepare_items(encoding.items), items)
        if items.dim() == 1:
            return scorer.match_all(query, vectors)
        return scorer.match(query.unsqueeze(-2), vectors)

    def scorer(self) -> Scorer:
        """See `Model.scorer`; encodes and prepares items once, and users too unless they have histories to read."""
        head = self._head("rank")
        if isinstance(self.encoder, SequenceEncoder):
            catalogue = self.encoder.catalogue(self._inputs())
            items = head.prepare_items(catalogue.items)
            return lambda users: head.match_all(head.prepare_query(self._queries(users, catalogue)), items)
        encoding = self.encode_all()
        query, items = head.prepare_query(encoding.query), head.prepare_items(encoding.items)
        return lambda users: head.match_all(query[users], items)

    def observe(self, interactions: Interactions) -> None:
        """See `Model.observe`; encoders that read histories read these."""
        if "history" in self.encoder.reads:
            self.histories = interactions.histories

    def _head(self, name: str) -> Head:
        head = self.heads[name]
        assert isinstance(head, Head)  # for the type checker: a ModuleDict holds any module
        return head

    def encode_all(self) -> Encoding:
        """Query vectors of all users [users, dim] and vectors of all items."""
        inputs = self._inputs()
        if not isinstance(self.encoder, SequenceEncoder):
            return self.encoder(inputs)
        catalogue = self.encoder.catalogue(inputs)
        return replace(catalogue, query=self._queries(inputs.users, catalogue))

    def _inputs(self) -> Inputs:
        """All users, without their histories."""
        if self.graph is not None:
            self.graph = self.graph.to(self.device)  # kept there, with its operator
        return Inputs(torch.arange(self.num_users, device=self.device), graph=self.graph)

    def _queries(self, users: Int[Tensor, "batch"], catalogue: Encoding) -> Float[Tensor, "batch dim"]:
        """Queries of users after all they have had, those with histories of similar length together."""
        encoder = self.encoder
        assert isinstance(encoder, SequenceEncoder)
        if self.histories is None:
            raise DataError(f"{type(encoder).__name__} reads histories: hand `observe` what users have had so far")
        wanted = users.cpu()
        order = (self.histories.starts[wanted + 1] - self.histories.starts[wanted]).argsort()
        queries = []
        for piece in wanted[order].split(PIECE):
            history = self.histories.last(piece, encoder.max_length).to(self.device)
            inputs = Inputs(piece.to(self.device), history, self.graph)
            queries.append(encoder.query(inputs, replace(catalogue, query=catalogue.query[inputs.users])))
        return torch.cat(queries)[order.argsort().to(self.device)]

    def export(self, folder: Path | str) -> list[Path]:
        """Write user and item vectors with their original ids, for use in other programs.

        `users.npy` and `items.npy` are float32 matrices; `users.parquet` and `items.parquet` have the columns `id` and
        `vector`, in the same order. Returns the files written.
        """
        catalogue = self._known()
        with torch.no_grad():
            encoding = self.eval().encode_all()
        written = []
        for name, vectors, ids in (
            ("users", encoding.query, catalogue.users.series),
            ("items", encoding.items, catalogue.items.series),
        ):
            matrix = vectors.float().cpu().numpy()
            with replacing(Path(folder) / f"{name}.npy") as temporary, temporary.open("wb") as file:
                np.save(file, matrix)
            with replacing(Path(folder) / f"{name}.parquet") as temporary:
                pl.DataFrame({"id": ids, "vector": matrix}).write_parquet(temporary)
            written += [Path(folder) / f"{name}.npy", Path(folder) / f"{name}.parquet"]
        return written

    def options(self) -> dict[str, Any]:
        """The configuration of encoder and heads."""
        if self.spec is None:
            raise ValueError(
                "this recommender was not built from a configuration; save its encoder's state_dict instead"
            )
        return {"encoder": self.spec["encoder"], "heads": self.spec["heads"]}

    def extra_tensors(self) -> dict[str, Tensor]:
        """The training graph's edges, and histories, if there are any."""
        tensors = {} if self.graph is None else {"graph.users": self.graph.users, "graph.items": self.graph.items}
        if self.histories is not None:
            tensors |= {"history.items": self.histories.items, "history.starts": self.histories.starts}
        return tensors

    @classmethod
    def rebuild(
        cls, num_users: int, num_items: int, options: dict[str, Any], tensors: dict[str, Tensor]
    ) -> Recommender:
        """See `Model.rebuild`."""
        graph = None
        if "graph.users" in tensors:
            graph = BipartiteGraph.from_edges(tensors["graph.users"], tensors["graph.items"], num_users, num_items)
        recommender = cls.build(num_users, num_items, options, graph)
        if "history.items" in tensors:
            recommender.histories = Histories(tensors["history.items"], tensors["history.starts"])
        return recommender
