"""A recommender is an encoder plus heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from recgraph import registry
from recgraph.data.content import Pipeline, from_tensors, pack, to_tensors, unpack
from recgraph.data.histories import Histories
from recgraph.data.interactions import Interactions, Vocabulary
from recgraph.data.vectors import write_vectors
from recgraph.encoders.base import Encoder, lookup
from recgraph.encoders.sequential import SequenceEncoder
from recgraph.errors import ConfigError, DataError
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.heads import Head
from recgraph.heads.labels import LabelHead
from recgraph.model import Model, Scorer
from recgraph.random import isolated
from recgraph.sharing import RANK, Sharing
from recgraph.types import Content, Encoding, Inputs, Modality

PIECE = 128
"""Users whose histories are encoded at once."""


class Recommender(Model):
    """An encoder and its heads.

    Args:
        encoder: makes query and item vectors.
        heads: scores them; the head "rank" ranks the catalogue.
        graph: the training graph, if the encoder reads one.
        spec: the configuration that encoder and heads were built from, so that they can be saved.
        content: what users and items are, if the encoder reads it.
        pipeline: what makes such content of attributes, so that items can be added.

    Attributes:
        label_heads: label -> the head that predicts it.
        sharing: experts between the encoder and all heads; None hands them its vectors as they are.
    """

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
        self.encoder, self.heads = encoder, nn.ModuleDict(heads)
        self.label_heads = nn.ModuleDict()
        self.sharing: Sharing | None = None
        self.graph, self.spec = graph, spec
        self.content, self.pipeline = content, pipeline
        self.histories: Histories | None = None

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
        """Make all from `spec`: `encoder`, `heads` and `sharing` as in a file, `label_heads` label -> its options."""
        more = {} if content is None else {"content": content}
        encoder = registry.encoders.build(spec["encoder"], num_users, num_items, where="encoder", **more)
        build = registry.heads.build
        heads = {name: build(head, encoder.dim, where=f"heads.{name}") for name, head in spec["heads"].items()}
        labels = {name: LabelHead(encoder.dim, **options) for name, options in spec.get("label_heads", {}).items()}
        sharing = None
        if spec.get("sharing"):
            sides = ([RANK, *(n for n, head in labels.items() if head.of != other)] for other in ("item", "user"))
            sharing = registry.sharings.build(spec["sharing"], encoder.dim, *sides, where="sharing")
        graph = graph if "graph" in encoder.reads else None
        made = cls(encoder, heads, graph=graph, spec=dict(spec), content=content, pipeline=pipeline)
        made.label_heads, made.sharing = nn.ModuleDict(labels), sharing
        return made

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
            items = head.prepare_items(self._share("item", catalogue.items))
            return lambda users: head.match_all(
                head.prepare_query(self._share("query", self._queries(users, catalogue))), items
            )
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

    def label_head(self, name: str) -> LabelHead:
        """The head that predicts a label."""
        head = self.label_heads[name]
        assert isinstance(head, LabelHead)
        return head

    def encode_all(self, task: str | None = RANK) -> Encoding:
        """Query vectors of all users [users, dim] and of all items, as a task reads them; None: before any experts."""
        inputs = self._inputs()
        if isinstance(self.encoder, SequenceEncoder):
            catalogue = self.encoder.catalogue(inputs)
            encoding = replace(catalogue, query=self._queries(inputs.users, catalogue))
        else:
            encoding = self.encoder(inputs)
        return encoding if task is None else self.shares(encoding).get(task, encoding)

    def shares(self, encoding: Encoding) -> dict[str, Encoding]:
        """What each task reads of an encoding; empty without experts, since then all read all of it."""
        if self.sharing is None:
            return {}
        query, items = self.sharing("query", encoding.query), self.sharing("item", encoding.items)
        return {
            task: replace(encoding, query=query.get(task, encoding.query), items=items.get(task, encoding.items))
            for task in {**query, **items}
        }

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters that tasks have in common: those of the encoder and of experts."""
        return [*self.encoder.parameters(), *(self.sharing.parameters() if self.sharing is not None else ())]

    def _share(self, side: str, vectors: Tensor) -> Tensor:
        return vectors if self.sharing is None else self.sharing(side, vectors)[RANK]

    def _inputs(self) -> Inputs:
        """All users, without their histories."""
        if self.graph is not None:
            self.graph = self.graph.to(self.device)  # kept there, with its operator
        if self.content is not None:
            self.content = self.content.to(self.device)
        users = torch.arange(self.num_users, device=self.device)
        return Inputs(users, graph=self.graph, content=self.content)

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
            inputs = Inputs(piece.to(self.device), history, self.graph, content=self.content)
            queries.append(encoder.query(inputs, replace(catalogue, query=catalogue.query[inputs.users])))
        return torch.cat(queries)[order.argsort().to(self.device)]

    def add_items(self, frame: pl.DataFrame) -> Recommender:
        """The same recommender with items that did not exist when it was trained, known by their content alone.

        Their content goes through the functions that were fitted in training, whose text, tags and so on the columns
        must be called as; of several tags in a cell of text, `|` is between. Nothing is trained, and what was
        recommended before keeps its scores, but for items without any content, which are taken for average.

        Args:
            frame: a row per item: `id`, `title` if there is one, and the columns of each modality.

        Raises:
            ConfigError: the encoder reads no content, its vectors are from a file, or a column is missing.
            DataError: an id is known already or repeated, or a value is wrong.
        """
        catalogue, pipeline = self._known(), self.pipeline
        if self.content is None or pipeline is None:
            raise ConfigError(f"{type(self.encoder).__name__} reads no content: it cannot tell new items apart")
        if "id" not in frame.columns or frame.is_empty():
            raise DataError(f"new items: expected a column `id` and a row each, got {len(frame)} of {frame.columns}")
        if frame["id"].dtype.is_integer() and catalogue.items.series.dtype == pl.String:
            frame = frame.with_columns(pl.col("id").cast(pl.String))
        ids = Vocabulary(frame["id"])
        if ids.series.dtype != catalogue.items.series.dtype:
            raise DataError(f"new items: ids are {ids.series.dtype}, but {catalogue.items.series.dtype} in the model")
        if known := sorted(set(ids.series) & set(catalogue.items.series)):
            raise DataError(f"new items: {len(known)} ids are in the catalogue already, such as {known[0]!r}")
        items = {}
        for name, old in self.content.items.items():
            new = pipeline[name].transform(frame, f"new items: {name}")
            both = zip(old, new, strict=True)
            items[name] = Modality(*(torch.cat([one, two.to(one.device)]) for one, two in both))
        num_items = self.num_items + len(frame)
        graph = self.graph and replace(self.graph, num_items=num_items)
        content = replace(self.content, items=items)
        with isolated(0, "load"):  # initial values are drawn, then overwritten
            more = Recommender.build(self.num_users, num_items, self.spec or {}, graph, content, pipeline)
        state = self.state_dict()
        for name, value in more.state_dict().items():
            if value.shape != state[name].shape:  # a table of items: a new one's row is never read
                state[name] = torch.cat([state[name], state[name].new_zeros(len(frame), *value.shape[1:])])
        more.load_state_dict(state)
        titles = None
        if catalogue.titles is not None or "title" in frame.columns:
            new_titles = frame["title"].cast(pl.String).to_list() if "title" in frame.columns else [None] * len(frame)
            titles = [*(catalogue.titles or [None] * self.num_items), *new_titles]
        vocabulary = Vocabulary(pl.concat([catalogue.items.series, ids.series]))
        more.catalogue = replace(catalogue, items=vocabulary, titles=titles)
        more.histories = self.histories
        return more.to(self.device).eval()

    def export(self, folder: Path | str) -> list[Path]:
        """Write user and item vectors with their original ids, for use in other programs.

        `users.npy` and `items.npy` are float32 matrices; `users.parquet` and `items.parquet` have the columns `id` and
        `vector`, in the same order. Returns the files written.
        """
        catalogue = self._known()
        with torch.no_grad():
            encoding = self.eval().encode_all()
        written = []
        users, items = (encoding.query, catalogue.users.series), (encoding.items, catalogue.items.series)
        for name, (vectors, ids) in (("users", users), ("items", items)):
            written += write_vectors(Path(folder) / name, vectors.float().cpu().numpy(), ids)
        return written

    def options(self) -> dict[str, Any]:
        """The configuration of encoder and heads, and what makes content of attributes."""
        if self.spec is None:
            raise ValueError(
                "this recommender was not built from a configuration; save its encoder's state_dict instead"
            )
        made = {} if self.pipeline is None else {"content": pack(self.pipeline)[0]}
        made |= {key: self.spec[key] for key in ("label_heads", "sharing") if self.spec.get(key)}
        return {"encoder": self.spec["encoder"], "heads": self.spec["heads"], **made}

    def extra_tensors(self) -> dict[str, Tensor]:
        """The training graph's edges, histories and the content, where there are any."""
        tensors = {} if self.graph is None else {"graph.users": self.graph.users, "graph.items": self.graph.items}
        if self.histories is not None:
            tensors |= {"history.items": self.histories.items, "history.starts": self.histories.starts}
        if self.content is not None:
            tensors |= to_tensors(self.content)
        if self.pipeline is not None:
            tensors |= {f"pipeline.{name}": value for name, value in pack(self.pipeline)[1].items()}
        return tensors

    @classmethod
    def rebuild(
        cls, num_users: int, num_items: int, options: dict[str, Any], tensors: dict[str, Tensor]
    ) -> Recommender:
        """See `Model.rebuild`."""
        graph, pipeline = None, None
        if "graph.users" in tensors:
            graph = BipartiteGraph.from_edges(tensors["graph.users"], tensors["graph.items"], num_users, num_items)
        content = from_tensors(tensors)
        if "content" in options:
            prefix = "pipeline."
            own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            pipeline = unpack(options["content"], own)
        recommender = cls.build(num_users, num_items, options, graph, content, pipeline)
        if "history.items" in tensors:
            recommender.histories = Histories(tensors["history.items"], tensors["history.starts"])
        return recommender
