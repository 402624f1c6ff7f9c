"""The recommender: an encoder plus heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from recgraph import registry
from recgraph.data.content import Pipeline, pack
from recgraph.data.histories import Histories
from recgraph.data.interactions import Interactions
from recgraph.data.vectors import write_vectors
from recgraph.encoders.base import Encoder, lookup
from recgraph.encoders.sequential import SequenceEncoder
from recgraph.errors import ConfigError, DataError
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.heads import Head, build_head
from recgraph.heads.labels import LabelHead
from recgraph.models import packing
from recgraph.models.extending import Extensible
from recgraph.models.model import Scorer
from recgraph.models.newcomers import with_rows
from recgraph.models.pairing import asked, check_head, check_histories, check_timeless, offered
from recgraph.models.sharing import RANK, Sharing
from recgraph.random import isolated
from recgraph.types import Content, Encoding, Inputs, Past

PIECE = 128
"""Number of users whose histories are encoded at once."""

PIECES = 2**15
"""Number of pairs that are scored at once."""


class Recommender(Extensible):
    """Combines an encoder, which makes query and item vectors, with the heads that score them.

    Args:
        encoder: makes query and item vectors.
        heads: score these vectors; the head "rank" ranks the catalogue.
        graph: the training graph, if the encoder reads one.
        spec: the configuration from which encoder and heads were built; needed for saving.
        content: the content of users and items, if the encoder reads it.
        pipeline: turns attributes into such content, so that items can be added.

    Attributes:
        label_heads: label -> the head that predicts it.
        popularity: ln(1 + number of observed interactions) [items], NaN before any; None unless a head reads it.
        sharing: experts between the encoder and all heads; None passes the vectors on unchanged.
    """

    popularity: Tensor | None

    def __init__(
        self,
        encoder: Encoder,
        heads: Mapping[str, Head],
        *,
        graph: BipartiteGraph | None = None,
        spec: Mapping[str, Any] | None = None,
        content: Content | None = None,
        pipeline: Pipeline | None = None,
    ) -> None:
        super().__init__(encoder.num_users, encoder.num_items)
        check_histories(encoder)
        self.encoder, self.heads, self.label_heads = encoder, nn.ModuleDict(heads), nn.ModuleDict()
        self.sharing: Sharing | None = None
        self.graph, self.spec = graph, spec
        self.content, self.pipeline = content, pipeline
        self.histories: Histories | None = None
        read = any("popularity" in head.reads for head in heads.values())
        self.register_buffer("popularity", torch.full((self.num_items,), torch.nan) if read else None)

    @classmethod
    def build(
        cls,
        num_users: int,
        num_items: int,
        spec: Mapping[str, Any],
        graph: BipartiteGraph | None,
        content: Content | None = None,
        pipeline: Pipeline | None = None,
    ) -> Recommender:
        """Build all parts from `spec`: `encoder`, `heads`, `sharing` as in a file; `label_heads`: label -> options."""
        spec = {"heads": {"rank": "dot"}, **spec}
        more = {} if content is None else {"content": content}
        encoder = registry.encoders.build(spec["encoder"], num_users, num_items, where="encoder", **more)
        heads = {}
        for name, head in spec["heads"].items():
            check_head(head, encoder.reads, f"heads.{name}", type(encoder).__name__)
            heads[name] = build_head(head, encoder.dim, encoder.layout, where=f"heads.{name}")
        labels = {name: LabelHead(encoder.dim, **options) for name, options in spec.get("label_heads", {}).items()}
        graph = graph if "graph" in encoder.reads else None
        made = cls(encoder, heads, graph=graph, spec=spec, content=content, pipeline=pipeline)
        made.label_heads = nn.ModuleDict(labels)
        if spec.get("sharing"):
            encoder.layout.refuse_weights("sharing", "an expert")
            sides = ([RANK, *(n for n, head in labels.items() if head.of != other)] for other in ("item", "user"))
            made.sharing = registry.sharings.build(spec["sharing"], encoder.dim, *sides, where="sharing")
        return made

    def score(self, encoding: Encoding, items: Tensor | None = None, *, head: str = "rank") -> Tensor:
        """Scores of given items, or of all items.

        Args:
            encoding: the output of the encoder for a batch.
            items: indices [*batch, candidates] of each row's own candidates; [candidates] shared by all rows; or
                None for the whole catalogue.
            head: name of the head that scores.

        Returns:
            Scores [*batch, candidates], or [*batch, items].
        """
        scorer = self.head(head)
        query = asked(scorer, encoding)
        if items is not None and items.numel() < len(encoding.items):
            vectors = offered(scorer, lookup(encoding.items, items), self.popularity, items)
            return scorer.all_pairs(query, vectors) if items.dim() == 1 else scorer(query.unsqueeze(-2), vectors)
        catalogue = offered(scorer, encoding.items, self.popularity)
        if items is None:
            return scorer.all_pairs(query, catalogue)
        query = scorer.prepare_query(query)  # on average, every item is read more than once
        vectors = lookup(scorer.prepare_items(catalogue), items)
        return scorer.match_all(query, vectors) if items.dim() == 1 else scorer.match(query.unsqueeze(-2), vectors)

    def score_pairs(self, encoding: Encoding, items: Int[Tensor, "*batch"], *, head: str = "rank") -> Tensor:
        """Scores [*batch] of one item for each row of a batch; otherwise as `score`."""
        scorer, vectors = self.head(head), lookup(encoding.items, items)
        return scorer(asked(scorer, encoding), offered(scorer, vectors, self.popularity, items))

    def scorer(self) -> Scorer:
        """See `Model.scorer`; encodes and prepares items once, and users too unless the encoder reads histories."""
        head = self.head("rank")
        if isinstance(self.encoder, SequenceEncoder):
            catalogue = self.encoder.catalogue(self._inputs())
            shared = self._share("item", catalogue.items)
            items = head.prepare_items(offered(head, shared, self.popularity))

            def scores(users: Int[Tensor, "batch"]) -> Tensor:
                query = self._share("query", self._queries(users, catalogue))
                encoding = replace(catalogue, query=query, items=shared, past=self._past(users))
                return head.match_all(head.prepare_query(asked(head, encoding)), items)

            return scores
        encoding = self.encode_all()
        query = head.prepare_query(encoding.query)
        items = head.prepare_items(offered(head, encoding.items, self.popularity))
        return lambda users: head.match_all(query[users], items)

    def observe(self, interactions: Interactions) -> None:
        """See `Model.observe`; keeps histories if the encoder reads them, item counts if a head reads popularity."""
        if self.popularity is not None:
            counts = torch.from_numpy(interactions.item_indices).bincount(minlength=self.num_items)
            self.popularity.copy_(counts.double().log1p())
        if "history" in self.encoder.reads:
            self.histories = interactions.histories

    def predict(
        self,
        users: Int[Tensor, "rows"],
        items: Int[Tensor, "rows"],
        context: Int[Tensor, "rows moments"] | None = None,
        head: str = "rank",
    ) -> Float[Tensor, "rows"]:
        """Scores of pairs, such as click logits, computed in chunks; pairs on any device, `context` as in `Inputs`."""
        found, base = [], self._inputs()
        for start in range(0, max(1, len(users)), PIECES):  # once at least, for the type of no scores
            some = slice(start, start + PIECES)
            moment = None if context is None else context[some].to(self.device)
            encoding = self.encoder(replace(base, users=users[some].to(self.device), context=moment))
            encoding = self.shares(encoding).get(RANK, encoding)
            found.append(self.score_pairs(encoding, items[some].to(self.device), head=head))
        return torch.cat(found)

    def head(self, name: str) -> Head:
        """A head that scores items for a query."""
        return cast(Head, self.heads[name])  # a ModuleDict holds any module

    def label_head(self, name: str) -> LabelHead:
        """The head that predicts a label."""
        return cast(LabelHead, self.label_heads[name])

    def encode_all(self, task: str | None = RANK) -> Encoding:
        """Vectors of all users [users, dim] and all items, as a task reads them; with None, before the experts."""
        check_timeless(self.encoder)
        inputs = self._inputs()
        if isinstance(self.encoder, SequenceEncoder):
            catalogue = self.encoder.catalogue(inputs)
            encoding = replace(catalogue, query=self._queries(inputs.users, catalogue))
        else:
            encoding = self.encoder(inputs)
        return encoding if task is None else self.shares(encoding).get(task, encoding)

    def shares(self, encoding: Encoding) -> dict[str, Encoding]:
        """What each task reads of an encoding; empty without experts, since all tasks then read all of it."""
        if self.sharing is None:
            return {}
        query, items = self.sharing("query", encoding.query), self.sharing("item", encoding.items)
        return {
            task: replace(encoding, query=query.get(task, encoding.query), items=items.get(task, encoding.items))
            for task in {**query, **items}
        }

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters shared by all tasks: those of the encoder and of the experts."""
        return [*self.encoder.parameters(), *(self.sharing.parameters() if self.sharing is not None else ())]

    def _share(self, side: str, vectors: Tensor) -> Tensor:
        return vectors if self.sharing is None else self.sharing(side, vectors)[RANK]

    def _inputs(self) -> Inputs:
        """All users, without their histories."""
        if self.popularity is not None and self.popularity.isnan().any():
            raise DataError("a head reads popularity: hand `observe` what users have had so far")
        if self.graph is not None:
            self.graph = self.graph.to(self.device)  # stays there, with its cached operator
        if self.content is not None:
            self.content = self.content.to(self.device)
        users = torch.arange(self.num_users, device=self.device)
        return Inputs(users, graph=self.graph, content=self.content)

    def _queries(self, users: Int[Tensor, "batch"], catalogue: Encoding) -> Float[Tensor, "batch dim"]:
        """Queries of users after their whole history; users with histories of similar length are batched together."""
        encoder = self.encoder
        assert isinstance(encoder, SequenceEncoder)
        if self.histories is None:
            raise DataError(f"{type(encoder).__name__} reads histories: hand `observe` what users have had so far")
        wanted = users.cpu()
        order = (self.histories.starts[wanted + 1] - self.histories.starts[wanted]).argsort()
        queries = []
        for piece in wanted[order].split(PIECE):
            inputs = Inputs(piece.to(self.device), self._past(piece).history, self.graph, content=self.content)
            queries.append(encoder.query(inputs, replace(catalogue, query=catalogue.query[inputs.users])))
        return torch.cat(queries)[order.argsort().to(self.device)]

    def inputs_of(self, user: int | None = None) -> Inputs:
        """The encoder's inputs for one user, or for all users without their histories."""
        inputs = self._inputs()
        if user is None:
            return inputs
        one = torch.tensor([user], device=self.device)
        history = self._past(one).history if self.histories is not None else None
        return replace(inputs, users=one, history=history)

    def _past(self, users: Int[Tensor, "batch"]) -> Past:
        """The whole histories of users, as far back as the encoder reads."""
        assert self.histories is not None  # ensured by `_queries`
        assert isinstance(self.encoder, SequenceEncoder)
        return Past(self.histories.last(users.cpu(), self.encoder.max_length).to(self.device))

    def enlarged(
        self, num_users: int, num_items: int, graph: BipartiteGraph | None, content: Content | None
    ) -> Recommender:
        """See `Extensible.enlarged`."""
        with isolated(0, "load"):  # initial values are drawn, then overwritten
            more = Recommender.build(num_users, num_items, self.options(), graph, content, self.pipeline)
        more.load_state_dict(with_rows(self.state_dict(), more.state_dict(), (self.num_users, self.num_items)))
        return more.to(self.device).eval()

    def export(self, folder: Path | str) -> list[Path]:
        """Write user and item vectors with their original ids, for use in other programs.

        `users.npy` and `items.npy` are float32 matrices; `users.parquet` and `items.parquet` have the columns `id` and
        `vector`, in the same order. Returns the files written.
        """
        known = self._known()
        with torch.no_grad():
            encoding = self.eval().encode_all()
        users = write_vectors(Path(folder) / "users", encoding.query.float().cpu().numpy(), known.users.series)
        return users + write_vectors(Path(folder) / "items", encoding.items.float().cpu().numpy(), known.items.series)

    def options(self) -> dict[str, Any]:
        """The configuration of encoder and heads, and of the pipeline that turns attributes into content."""
        if self.spec is None:
            raise ConfigError("this recommender was built from no configuration: make it by `Recommender.build`")
        made = {} if self.pipeline is None else {"content": pack(self.pipeline)[0]}
        made |= {key: self.spec[key] for key in ("label_heads", "sharing") if self.spec.get(key)}
        return {"encoder": self.spec["encoder"], "heads": self.spec["heads"], **made}

    def extra_tensors(self) -> dict[str, Tensor]:
        """The training graph's edges and links, histories and content, where present."""
        tensors = packing.pack_graph(self.graph) | packing.pack_content(self.content)
        return tensors | packing.pack_histories(self.histories) | packing.pack_pipeline(self.pipeline)

    @classmethod
    def rebuild(
        cls, num_users: int, num_items: int, options: dict[str, Any], tensors: dict[str, Tensor]
    ) -> Recommender:
        """See `Model.rebuild`."""
        graph, content = packing.unpack_graph(tensors, num_users, num_items), packing.unpack_content(tensors)
        pipeline = packing.unpack_pipeline(options.get("content"), tensors)
        recommender = cls.build(num_users, num_items, options, graph, content, pipeline)
        recommender.histories = packing.unpack_histories(tensors)
        return recommender
