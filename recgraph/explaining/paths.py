"""Scores of graph encoders as sums over neighbours' messages: exact, since scores are linear in them.

An encoder that sums layers over neighbours gives a user u and an item i the vectors

    e_u = o_u + Σ_j a_uj m_j,   e_i = o_i + Σ_v b_iv n_v

over the items j in u's history and the users v of i. The message m_j is a weighted sum of j's layers before the last,
however they were computed. o_u is u's own term: its weighted layer 0, and messages over links to other users. For a
head that is an inner product ⟨·,·⟩, the score is then a sum over pairs,

    ⟨e_u, e_i⟩ = ⟨o_u, o_i⟩ + Σ_j a_uj ⟨m_j, o_i⟩ + Σ_v b_iv ⟨o_u, n_v⟩ + Σ_j Σ_v a_uj b_iv ⟨m_j, n_v⟩

where a pair (j, v) with an interaction between v and j is a path u - j - v - i of the graph.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.encoders.base import Encoder
from recgraph.encoders.gat import GAT
from recgraph.encoders.lightgcn import LightGCN
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.graph.propagate import product
from recgraph.heads import GMF, Cosine, Dot, Head
from recgraph.types import Inputs

Sides = tuple[Tensor, Tensor]
"""A tensor for the users and one for the items."""


class Messages(NamedTuple):
    """The terms of an encoder's vectors; see the module.

    Attributes:
        own: o, [users, dim] and [items, dim].
        told: messages, n of users [users, dim] and m of items [items, dim].
        to_users, to_items: a and b of each edge, in the graph's order. Vectors are split into as many equal parts as
            there are columns, each with its own weights.
    """

    own: Sides
    told: Sides
    to_users: Float[Tensor, "edges parts"]
    to_items: Float[Tensor, "edges parts"]


class Pairs(NamedTuple):
    """A score as a sum over pairs: table.sum() + rest.

    Attributes:
        table: terms of the score. Row 0 is u's own term, then one row per item j; column 0 is i's own, then one per v.
        items: the items j of the rows from 1 on.
        users: the users v of the columns from 1 on.
        linked: whether there is an edge between j and v, and so a path, [items, users].
        rest: the head's constant.
    """

    table: Float[Tensor, "rows columns"]
    items: Int[Tensor, "items"]
    users: Int[Tensor, "users"]
    linked: Tensor
    rest: float


def messages(encoder: Encoder, inputs: Inputs) -> Messages | None:
    """Decompose an encoder's vectors into messages; None if they are not sums over neighbours.

    Args:
        encoder: the encoder, in evaluation mode.
        inputs: inputs with all users and the graph.
    """
    if not isinstance(encoder, LightGCN | GAT) or not isinstance(inputs.graph, BipartiteGraph):
        return None
    layers = encoder(replace(inputs, every_layer=True)).layers
    links: list[Tensor | None] = [None, None]
    if isinstance(encoder, GAT):
        weights, first, unit = [1 / len(layers)] * len(layers), 0, False
        to_users, to_items = (side.T for side in encoder.attention(inputs))
    else:
        graph = inputs.graph.normalised(encoder.alpha, encoder.beta)
        weights, first, unit = [float(w) for w in encoder.layer_weights], encoder.first_layer, encoder.unit_messages
        operator = graph.operators_in(layers[0][0].dtype)[0]
        links = [operator.user_user, operator.item_item]
        to_users = operator.user_item.values().unsqueeze(1)
        to_items = torch.empty_like(to_users)
        to_items[graph.by_item] = operator.item_user.values().unsqueeze(1)
    weights = [0.0] * first + weights
    own, told = [], []
    for side, linked in zip(zip(*layers, strict=True), links, strict=True):
        sent = [F.normalize(layer, dim=-1) if unit else layer for layer in side[:-1]]
        told.append(sum((w * layer for w, layer in zip(weights[1:], sent, strict=True)), torch.zeros_like(side[0])))
        own.append(weights[0] * side[0] if linked is None else weights[0] * side[0] + product(linked, told[-1], 1.0))
    return Messages((own[0], own[1]), (told[0], told[1]), to_users, to_items)


def pairs(found: Messages, graph: BipartiteGraph, head: Head, user: int, item: int) -> Pairs | None:
    """The score of an item for a user as a sum over pairs; None if the head is not an inner product."""
    of_user, of_item = graph.users == user, graph.items == item
    items, users = graph.items[of_user], graph.users[of_item]
    dim = found.own[0].shape[1]

    def parts(own: Tensor, told: Tensor, weights: Tensor) -> Tensor:
        return torch.cat([own[None], told * weights.repeat_interleave(dim // weights.shape[1], -1)])

    rows = parts(found.own[0][user], found.told[1][items], found.to_users[of_user])
    columns = parts(found.own[1][item], found.told[0][users], found.to_items[of_item])
    product = inner_product(head, rows.sum(0), columns.sum(0))
    if product is None:
        return None
    scale, rest = product
    linked = torch.zeros(len(items), len(users), dtype=torch.bool, device=items.device)
    for place, one in enumerate(items.tolist()):
        linked[place] = torch.isin(users, graph.users[graph.items == one])
    return Pairs((rows * scale) @ columns.T, items, users, linked, rest)


def inner_product(head: Head, query: Float[Tensor, "dim"], item: Float[Tensor, "dim"]) -> tuple[Tensor, float] | None:
    """Factors s and a constant b such that the score is Σ s ⊙ query ⊙ item + b; None if the head has another form."""
    if type(head) is Dot:
        return torch.ones_like(query), 0.0
    if type(head) is Cosine:
        return torch.ones_like(query) / (query.norm() * item.norm()).clamp(min=1e-12), 0.0
    if type(head) is GMF:
        return head.output.weight[0], float(head.output.bias)
    return None
