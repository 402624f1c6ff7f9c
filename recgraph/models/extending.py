"""Models to which users and items can be added after training."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import polars as pl
import torch
import torch.nn.functional as F

from recgraph.data.content import Pipeline
from recgraph.data.histories import Histories
from recgraph.data.interactions import Vocabulary
from recgraph.encoders.base import Encoder
from recgraph.errors import ConfigError
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.models.model import Model
from recgraph.models.newcomers import appended, continued, had, new_ids, titles_of
from recgraph.types import Content, Encoding


class Extensible(Model):
    """A model that represents new users and items without training, by its graph, content or histories."""

    encoder: Encoder
    graph: BipartiteGraph | None
    content: Content | None
    pipeline: Pipeline | None
    histories: Histories | None

    def encode_all(self) -> Encoding:
        """Query vectors of all users and vectors of all items."""
        raise NotImplementedError

    def enlarged(self, num_users: int, num_items: int, graph: BipartiteGraph | None, content: Content | None) -> Self:
        """The same model with a larger catalogue; the free vectors of added users and items are zeros."""
        raise NotImplementedError

    def add_items(self, frame: pl.DataFrame) -> Self:
        """The same recommender with items added that it was not trained on, known by their content alone.

        Their content passes through the functions fitted in training, so columns must have the same names as in
        training. For a modality from a file, the vectors are in a column with the modality's name. In a text cell, `|`
        separates tags or the numbers of a vector. Nothing is trained. Existing items keep their scores, except those
        without any content, which count as average. New items have no relation links.

        Args:
            frame: a row per item: `id`, optionally `title`, and the columns of each modality.

        Raises:
            ConfigError: the encoder reads no content of items, no pipeline makes it, or a column is missing.
            DataError: an id already exists or is repeated, or a value is invalid.
        """
        catalogue, content = self._known(), self.content
        if content is None or not content.items or "content" not in self.encoder.reads:
            raise ConfigError(f"{type(self.encoder).__name__} reads no content of items: it cannot tell new ones apart")
        if self.pipeline is None:
            raise ConfigError("new items: no pipeline makes their content: give the model a `pipeline`")
        ids = new_ids(frame, catalogue.items, "new items")
        num_items = self.num_items + len(frame)
        graph = self.graph and replace(self.graph, num_items=num_items)
        if graph and graph.item_links:
            graph = graph.linked(graph.user_links, graph.item_links.padded(num_items))
        items = appended(content.items, self.pipeline, frame, "new items")
        titles, new_titles = catalogue.titles, titles_of(frame, "new items")
        if titles is not None or new_titles is not None:
            none = [None] * self.num_items, [None] * len(frame)
            titles = [*(titles or none[0]), *(new_titles or none[1])]
        vocabulary = Vocabulary(pl.concat([catalogue.items.series, ids.series]))
        more = self.enlarged(self.num_users, num_items, graph, replace(content, items=items))
        more.catalogue = replace(catalogue, items=vocabulary, titles=titles)
        more.histories = self.histories
        return more

    def add_users(self, frame: pl.DataFrame) -> Self:
        """The same recommender with users added that it was not trained on, known by attributes or by a few items.

        Nothing is trained. A graph encoder gets them as nodes with zero vectors of their own, connected to their items;
        items that nobody had in training are not connected. This raises the degrees of those items, which normalise
        the layers, so other users' scores may change slightly. A sequence encoder reads their items in the given
        order. If users have content, that of new users passes through the functions fitted in training.

        Args:
            frame: a row per user: `id`, `items` (ids as a list, or as text separated by `|`), and content columns.

        Raises:
            ConfigError: a column is missing, or the model has nothing from which to represent a new user.
            DataError: an id already exists or is repeated, an item is unknown, or a value is invalid.
        """
        catalogue, content, histories = self._known(), self.content, self.histories
        ids = new_ids(frame, catalogue.users, "new users")
        rows, items = had(frame, catalogue.items, "new users")
        num_users, graph = self.num_users + len(frame), self.graph
        told = torch.zeros(len(frame), dtype=torch.bool)
        if histories:
            told[rows] = True
        if graph:
            reached = graph.item_degrees.cpu()[items] > 0
            told[rows[reached]] = True
            ends = torch.cat([graph.users.cpu(), rows[reached] + self.num_users])
            others = torch.cat([graph.items.cpu(), items[reached]])
            known = graph.to("cpu")
            graph = BipartiteGraph.from_edges(ends, others, num_users, self.num_items).normalised(*known.exponents)
            if known.weights is not None:  # edges are sorted by user, so that the new ones, of weight 1, come last
                graph = graph.reweighted(F.pad(known.weights, (0, graph.num_edges - known.num_edges), value=1.0))
            graph = graph.linked(known.user_links and known.user_links.padded(num_users), known.item_links)
            graph = graph.to(self.device)
        if content and content.users:
            if self.pipeline is None:
                raise ConfigError("new users: no pipeline makes their content: give the model a `pipeline`")
            content = replace(content, users=appended(content.users, self.pipeline, frame, "new users"))
            told[:] = True
        more = self.enlarged(num_users, self.num_items, graph, content)
        more.catalogue = replace(
            catalogue,
            users=Vocabulary(pl.concat([catalogue.users.series, ids.series])),
            seen_users=torch.cat([catalogue.seen_users, rows + self.num_users]),
            seen_items=torch.cat([catalogue.seen_items, items]),
        )
        more.histories = histories and continued(histories, rows, items, len(frame))
        with torch.no_grad():
            unknown = ~(told & more.encode_all().query[self.num_users :].any(-1).cpu())
        if unknown.any():
            first = int(unknown.nonzero()[0])
            raise ConfigError(
                f"new users: nothing tells {type(self.encoder).__name__} who {ids.series[first]!r} is: "
                + self._lacking(given=bool((rows == first).any()), joined=bool(graph) and bool(told[first]))
            )
        return more

    def _lacking(self, *, given: bool, joined: bool) -> str:
        """Why the model cannot represent a new user.

        Args:
            given: whether the user has `items`.
            joined: whether any of them is connected in the graph.
        """
        content = "attributes to one that reads content of users"
        if not given:
            return f"give `items` to a graph or sequence encoder, or {content}"
        if self.graph and not joined:
            return f"nobody had these `items` in training; give others, or {content}"
        part = type(getattr(self.encoder, "graph", self.encoder)).__name__  # a hybrid's users come from its graph part
        return (
            f"`items` have no place in {part}, which has a vector of its own for each user; give them to one that "
            f"passes them on, such as lightgcn or an encoder of histories, or {content}"
        )
