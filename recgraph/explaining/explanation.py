"""Explains why a model recommends an item to a user: its weights, and the contributions to the score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from recgraph.baselines.linear import LinearModel
from recgraph.encoders import Attentive, ContentEncoder, Encoder, Hybrid, Pooling, SequenceEncoder
from recgraph.encoders.hybrid import how_known
from recgraph.encoders.sequential import steps
from recgraph.encoders.tower import Tower
from recgraph.encoders.transformer import Attention
from recgraph.errors import ConfigError, DataError
from recgraph.experiments.labelling import gates
from recgraph.explaining.panels import Bars, Grid
from recgraph.explaining.paths import Pairs, inner_product, messages, pairs
from recgraph.heads import Head
from recgraph.models.model import Model
from recgraph.models.pairing import asked, check_timeless
from recgraph.models.recommender import Recommender
from recgraph.models.sharing import RANK
from recgraph.types import Encoding, Inputs


@dataclass(frozen=True)
class Explanation:
    """The explanation of the score of `item` for `user`, as panels."""

    user: Any
    item: Any
    title: str | None
    score: float
    panels: Sequence[Bars | Grid]

    def as_json(self) -> dict[str, Any]:
        """The explanation as lists and dictionaries."""
        return {**asdict(self), "panels": [{"kind": type(p).__name__.lower(), **asdict(p)} for p in self.panels]}


def explain(model: Model, user: Any, item: Any = None) -> Explanation:
    """Explain why a model recommends an item to a user.

    Args:
        model: loaded from a run.
        user: original id.
        item: original id; None for the user's top item.

    Raises:
        DataError: the user or the item is unknown, nothing is left to recommend, or the model has no catalogue.
        ConfigError: the model has no weights or contributions that could be shown, or scores depend on the moment.
    """
    catalogue = model.catalogue
    if catalogue is None:
        raise DataError("this model has no catalogue: load it from a run")
    if item is None:
        best = model.recommend(user, 1)
        if not best:
            raise DataError(f"user {user!r} has had every item: name one to explain with `item`")
        item = best[0].item
    index = int(catalogue.users.encode([user])[0]), int(catalogue.items.encode([item])[0])
    known = _Names(model)
    if isinstance(model, LinearModel):
        found = model.explain(user, item)
        score = sum(one.contribution for one in found)
        names = [one.title or str(one.item) for one in found]
        note = "each item of the history adds to the score"
        panels: list[Bars | Grid] = [Bars("Because of", names, [one.contribution for one in found], note, total=score)]
    elif isinstance(model, Recommender):
        with torch.no_grad():
            score, panels = _of_recommender(model.eval(), *index, known)
    else:
        score, panels = 0.0, []
    if not panels:
        parts = [model, *((model.encoder, *model.heads.values()) if isinstance(model, Recommender) else ())]
        what = " with ".join(type(part).__name__ for part in parts[-2:])
        raise ConfigError(
            f"{what}: nothing to explain a score by. What can be explained: neighbourhood and linear baselines, "
            "attention over histories that are not empty, the head din, lightgcn and gat with an inner product, "
            "content, experts"
        )
    return Explanation(str(user), str(item), known.titles[index[1]], score, panels)


class _Names:
    """Names of items (titles, else ids) and of users for display."""

    def __init__(self, model: Model) -> None:
        assert model.catalogue is not None
        self.catalogue = model.catalogue
        self.titles = self.catalogue.titles or [None] * model.num_items

    def items(self, indices: Sequence[int]) -> list[str]:
        ids = self.catalogue.items.decode(list(indices)).tolist() if len(indices) else []
        return [self.titles[index] or str(one) for index, one in zip(indices, ids, strict=True)]

    def users(self, indices: Sequence[int]) -> list[str]:
        return [f"user {one}" for one in self.catalogue.users.decode(list(indices)).tolist()] if len(indices) else []


def _of_recommender(model: Recommender, user: int, item: int, known: _Names) -> tuple[float, list[Bars | Grid]]:
    rank, encoder, popularity = model.head(RANK), model.encoder, model.popularity
    check_timeless(encoder)
    inputs = model.inputs_of(user)
    with _watched(encoder) as blocks:
        encoding = encoder(inputs)
    shared = model.shares(encoding).get(RANK, encoding)
    score = float(model.score(shared, torch.tensor([[item]], device=model.device)))
    popular = {} if popularity is None else rank.added(float(popularity[item]))
    plain = score - sum(popular.values())
    panels = _experts(model, user, item)
    history: list[str] = []
    if isinstance(encoder, SequenceEncoder) and inputs.history is not None:
        places = inputs.history[0][inputs.history[0] > 0] - 1
        history = known.items(places.tolist())
        panels += _attention(blocks, history, inputs.history.shape[1], getattr(encoder, "filtered", 0.0))
        if model.sharing is None:  # with experts between vectors and score, contributions do not add up
            panels += _pooled(encoder, rank, inputs, encoding, item, history, plain)
    for name in model.heads:
        head = model.head(name)
        weights = head.weights(asked(head, shared), shared.items[[item]])
        panels += [_weighed(name, key, one[0], history) for key, one in weights.items()]
    found = messages(encoder, model.inputs_of()) if "graph" in encoder.reads and model.sharing is None else None
    if found is not None and model.graph is not None:
        table = pairs(found, model.graph, rank, user, item)
        panels += [] if table is None else _paths(table, plain, known, links=model.graph.has_links)
    panels = [panel.plus(popular) if isinstance(panel, Bars) else panel for panel in panels]
    return score, panels + _content(encoder, model, item)


def _experts(model: Recommender, user: int, item: int) -> list[Bars | Grid]:
    """If tasks share experts: the gate weights of ranking and of each label over them, for the user and the item."""
    panels: list[Bars | Grid] = []
    sides: tuple[tuple[Literal["query", "item"], int, str], ...] = (("query", user, "user"), ("item", item, "item"))
    for side, index, of in sides:
        found = gates(model, side, torch.tensor([index]))
        names = list(dict.fromkeys(name for experts, _ in found.values() for name in experts))
        shares = [dict(zip(experts, weights[0].tolist(), strict=True)) for experts, weights in found.values()]
        values = [[share.get(name, 0.0) for share in shares] for name in names]
        if values:
            note = f"share of each expert in what a task reads of the {of}; rank is ranking"
            panels.append(Grid(f"Experts for the {of}", names, list(found), values, note))
    return panels


@contextmanager
def _watched(encoder: Encoder) -> Iterator[list[Tensor]]:
    """Yield a list to which each attention block that runs appends the weights [heads, length] of the last step."""
    found: list[Tensor] = []

    def keep(module: Attention, given: tuple[Tensor, ...], _: Tensor) -> None:
        found.append(module.weights(*given)[0, :, -1])

    handles = [part.register_forward_hook(keep) for part in encoder.modules() if isinstance(part, Attention)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _attention(blocks: Sequence[Tensor], history: Sequence[str], length: int, filtered: float) -> list[Bars | Grid]:
    """For transformers: the attention of the last step by block and head.

    `length` counts the steps that were given, which are the history, or padding if it is empty. `filtered` is the share
    of each block that comes from a frequency filter instead.
    """
    names = [*history, *["(what comes next)"] * (blocks[0].shape[1] - length)] if blocks else []  # BERT4Rec's mask
    if not names:
        return []
    columns = [f"block {b} head {h}" for b, heads in enumerate(blocks, 1) for h in range(1, len(heads) + 1)]
    values = torch.cat(list(blocks)).T[-len(names) :]
    other = f"; it counts {1 - filtered:.0%} of a block, a filter of frequencies the rest" if filtered else ""
    note = f"share of the attention of the last step, the newest item last{other}"
    return [Grid("Attention over the history", names, columns, values.tolist(), note)]


def _pooled(
    encoder: Encoder, head: Head, inputs: Inputs, encoding: Encoding, item: int, history: Sequence[str], score: float
) -> list[Bars | Grid]:
    """For weighted means: the weights and, if the head is an inner product, each item's contribution to the score."""
    if not isinstance(encoder, Attentive | Pooling) or inputs.history is None or not history:
        return []
    vectors, _ = steps(encoding.items, inputs.history)
    weights, there = encoder.weights(vectors, inputs.history)[0, -1], inputs.history[0] > 0
    panels: list[Bars | Grid] = []
    if isinstance(encoder, Attentive):  # a plain mean has equal weights
        values = weights[there].tolist()
        panels.append(Bars("Weights of the history", history, values, "share of the query", ordered=True))
    product = inner_product(head, encoding.query[0], encoding.items[item])
    if product is None or encoder.user == "gate":
        return panels
    added = (weights.unsqueeze(-1) * vectors[0]) @ (product[0] * encoding.items[item])
    own = encoder.user != "history" or product[1]
    rest = {"the user's own vector and the head's constant": score - float(added[there].sum())} if own else {}
    note = "each item of the history adds to the score"
    return [
        *panels,
        Bars("What the score is made of", history, added[there].tolist(), note, rest=rest, total=score, ordered=True),
    ]


def _weighed(head: str, key: str, values: Tensor, history: Sequence[str]) -> Bars:
    """For heads with weights: those that a head uses for this item."""
    if key == "history":
        note = f"what head {head!r} gives each item of the history when it scores this one"
        return Bars(
            "Attention of the item to the history",
            history,
            values[len(values) - len(history) :].tolist(),
            note,
            ordered=True,
        )
    names = [f"{key} {number}" for number in range(1, len(values) + 1)]
    return Bars(f"Weights of {key}", names, values.tolist(), f"in head {head!r}", ordered=True)


def _paths(found: Pairs, score: float, known: _Names, *, links: bool) -> list[Bars | Grid]:
    """For graph encoders: the contribution of each item of the history, and of each path through it, to the score."""
    table, inner = found.table, found.table[1:, 1:]
    names, people = known.items(found.items.tolist()), known.users(found.users.tolist())
    by_item = Bars(
        "Because of",
        names,
        table[1:].sum(1).tolist(),
        "what each item of the history passes on to the user",
        rest={
            f"the user's own vector{' and links' if links else ''}": float(table[0].sum()),
            **({"the head's constant": found.rest} if found.rest else {}),
        },
        total=score,
    )
    where = found.linked.nonzero()
    values = inner[found.linked]
    rest = {
        "pairs that no interaction joins": float(inner[~found.linked].sum()),
        f"pairs with a vector of their own{' or of links' if links else ''}": float(table[0].sum() + table[1:, 0].sum())
        + found.rest,
    }
    by_path = Bars(
        "Paths: an item of the history, and somebody who had both it and this item",
        [names[row] for row, _ in where.tolist()],
        values.tolist(),
        "what the item says of the user and that user of the item; all pairs add up to the score",
        tails=[f" → {people[column]}" for _, column in where.tolist()],
        rest=rest,
        total=score,
    )
    return [by_item, by_path] if len(values) else [by_item]


def _content(encoder: Encoder, model: Recommender, item: int) -> list[Bars | Grid]:
    """For content encoders: the weight of each of the item's modalities, and of content beside interactions."""
    if not isinstance(encoder, ContentEncoder | Hybrid) or model.content is None:
        return []
    if not isinstance(encoder.item_tower, Tower):  # only users have content
        return []
    weights = {name: float(one[item]) for name, one in encoder.item_tower.weights(model.content.items).items()}
    panels: list[Bars | Grid] = [
        Bars("What the item's content is", list(weights), list(weights.values()), "share of each modality")
    ]
    if isinstance(encoder, Hybrid) and model.graph is not None:
        degrees, links = model.graph.item_degrees, model.graph.item_links
        degree, known = float(degrees[item]), float(how_known(degrees, links)[item])
        share = known / max(known + encoder.shrinkage, 1e-9)
        name, note = "interactions", f"{degree:.0f} interactions in training"
        if links is not None:
            name, note = "interactions and links", f"{note}, and links that weigh {known - degree:.3g}"
        panels.append(Bars("Who had it, or what it is", [name, "content"], [share, 1 - share], note))
    return panels
