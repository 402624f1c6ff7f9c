"""Propagation over a graph: the loop that dominates the run time of graph encoders.

Everything here is a polynomial in the normalised adjacency Â (`BipartiteGraph.operator`). The gradient is the same
polynomial in Âᵀ (Â itself unless `BipartiteGraph.normalised` has changed it), applied to the incoming gradients: L
layers cost L products forward and L backward, and no layer is stored for the backward pass.

LightGCN: He et al. 2020, arXiv 2002.02126. Equation 3 is one product, e⁽ᵏ⁺¹⁾ = Â e⁽ᵏ⁾ (`neighbour_sum`);
equation 4 combines the layers, e = Σₖ αₖ e⁽ᵏ⁾ (`layer_sum`), and the paper settles on αₖ = 1 / (L + 1)
(`layer_mean`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from recgraph.errors import ConfigError
from recgraph.graph import backends
from recgraph.graph.backends import Backend
from recgraph.graph.bipartite import BipartiteGraph, Operator
from recgraph.graph.low_rank import Factored, LowRankGraph, LowRankOperator
from recgraph.numerics.matmul import unit
from recgraph.types import identity

Graph = BipartiteGraph | LowRankGraph
AnyOperator = Operator | LowRankOperator
Vectors = tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]


class GraphPerLayer:
    """Holds one graph for each layer: layer k + 1 is computed from layer k with graph k.

    Args:
        draw: makes a graph; called in the order of layers, when an encoder first asks for that layer's graph.
    """

    def __init__(self, draw: Callable[[], BipartiteGraph]) -> None:
        self._draw = draw
        self._drawn: list[BipartiteGraph] = []

    def __getitem__(self, layer: int) -> BipartiteGraph:
        while len(self._drawn) <= layer:
            self._drawn.append(self._draw())
        return self._drawn[layer]

    def normalised(self, alpha: float, beta: float) -> GraphPerLayer:
        """See `BipartiteGraph.normalised`; applies to each of these graphs, drawn once."""
        layers = itertools.count()
        return GraphPerLayer(lambda: self[next(layers)].normalised(alpha, beta))


def neighbour_sum(graph: Graph, users: Tensor, items: Tensor, *, backend: Backend = "torch") -> Vectors:
    """One product with Â: users'[u] = Σ_{i ∈ N(u)} items[i] / (d_uᵅ d_iᵝ), and the same the other way round.

    If the graph has links, sums also run over linked nodes: users over users, items over items.

    A node without neighbours gets zeros. Shapes, backends and errors are those of `layer_sum`.
    """
    return layer_sum(graph, users, items, (0.0, 1.0), backend=backend)


def layer_mean(graph: Graph, users: Tensor, items: Tensor, num_layers: int, *, backend: Backend = "torch") -> Vectors:
    """The mean of layers 0 to L: (1 + Â + … + Âᴸ)(users, items) / (L + 1).

    Args:
        num_layers: L, 0 or more; with 0 the values of the arguments are returned.

    Shapes, backends and errors are those of `layer_sum`.
    """
    if num_layers < 0:
        raise ValueError(f"num_layers is {num_layers}; expected 0 or more")
    return layer_sum(graph, users, items, [1 / (num_layers + 1)] * (num_layers + 1), backend=backend)


def layer_sum(
    graph: Graph,
    users: Float[Tensor, "users dim"],
    items: Float[Tensor, "items dim"],
    weights: Sequence[float],
    *,
    backend: Backend = "torch",
) -> Vectors:
    """A weighted sum of layers: Σₖ αₖ Âᵏ (users, items).

    Args:
        graph: on the device of the vectors.
        users: layer 0 of the users, float32 (or float64, for tests: Â is then built on each call).
        items: layer 0 of the items.
        weights: α₀ to α_L.
        backend: "torch"; or "pyg" or "dgl" for the message passing of these libraries, which is slower. Low-rank graphs
            pass no messages: they use dense products, whatever the backend.

    Returns:
        The users' and the items' sums, in the shapes of the arguments.

    Raises:
        ValueError: the numbers of rows do not match the graph, or there are no weights.
        ConfigError: no backend has this name, its library is not installed, or it does not support the graph's links.
    """
    _check(graph, users, items, weights)
    if backend == "torch" or isinstance(graph, LowRankGraph):
        return _LayerSum.apply(*graph.operators_in(users.dtype), weights, users, items)
    if graph.has_links:
        raise ConfigError(f"backend {backend!r} passes messages between users and items; links want backend 'torch'")
    step = backends.find(backend)
    layer = users, items
    total = weights[0] * users, weights[0] * items
    for weight in weights[1:]:
        layer = step(graph, *layer)
        total = total[0] + weight * layer[0], total[1] + weight * layer[1]
    return total


def layers(
    graph: Graph | GraphPerLayer,
    users: Tensor,
    items: Tensor,
    weights: Sequence[float] | Float[Tensor, "layers"],
    *,
    backend: Backend = "torch",
    perturb: Callable[[Tensor], Tensor] = identity,
    unit_messages: bool = False,
) -> tuple[Vectors, list[Vectors]]:
    """A weighted sum of layers as in `layer_sum`, and layers 0 to L one by one, for callers that contrast them.

    The gradient takes L products as well.

    Args:
        graph: one for all layers, or one for each.
        weights: α₀ to α_L; a tensor, if they are learned.
        perturb: applied to each layer from 1 on, before the next is computed from it. See `recgraph.types.Inputs`.
        unit_messages: scale the vectors of a layer to length 1 before they are multiplied by Â, as in LightGCN++;
            vectors of length 0 stay.

    Shapes, backends and errors are those of `layer_sum`.
    """
    _check(graph, users, items, weights)
    graphs = [graph[k] if isinstance(graph, GraphPerLayer) else graph for k in range(len(weights) - 1)]
    shifts = perturb is identity or getattr(perturb, "shifts", False)
    if graphs and shifts and backend == "torch" and not unit_messages and not isinstance(weights, Tensor):
        operators = [each.operators_in(users.dtype) for each in graphs]
        total_users, total_items, *found = _Layers.apply(operators, weights, perturb, users, items)
        return (total_users, total_items), [(users, items), *zip(found[::2], found[1::2], strict=True)]
    every = [(users, items)]
    for each in graphs:
        sent = (unit(side) for side in every[-1]) if unit_messages else every[-1]
        users, items = map(perturb, neighbour_sum(each, *sent, backend=backend))
        every.append((users, items))
    total_users, total_items = (_sum(side, weights) for side in zip(*every, strict=True))
    return (total_users, total_items), every


def _check(graph: Graph | GraphPerLayer, users: Tensor, items: Tensor, weights: Sequence[float] | Tensor) -> None:
    sizes = len(users), len(items)
    if not isinstance(graph, GraphPerLayer) and sizes != (graph.num_users, graph.num_items):
        raise ValueError(f"vectors of {len(users)} users and {len(items)} items do not fit {graph}")
    if not len(weights):
        raise ValueError("weights is empty; expected one for each layer from 0 to L")


def _sum(layers: Sequence[Tensor], weights: Sequence[float] | Tensor) -> Tensor:
    """The weighted sum of layers; each is one pass over memory."""
    total = weights[0] * layers[0]
    for weight, layer in zip(weights[1:], layers[1:], strict=True):
        total = total.addcmul_(weight, layer) if isinstance(weight, Tensor) else total.add_(layer, alpha=weight)
    return total


class _LayerSum(torch.autograd.Function):
    """`layer_sum` with a custom gradient: `layer_sum` of the incoming gradients with Âᵀ in place of Â."""

    @staticmethod
    def forward(
        ctx: Any, operator: AnyOperator, transposed: AnyOperator, weights: Sequence[float], users: Tensor, items: Tensor
    ) -> Vectors:
        ctx.operator, ctx.transposed, ctx.weights = operator, transposed, weights
        return _polynomial(operator, weights, users, items)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *_LayerSum.apply(ctx.transposed, ctx.operator, ctx.weights, *gradients)


class _Layers(torch.autograd.Function):
    """`layers` if the gradient passes through `perturb` unchanged: that of all is one sum by Horner's rule."""

    @staticmethod
    def forward(
        ctx: Any,
        operators: Sequence[tuple[AnyOperator, AnyOperator]],
        weights: Sequence[float],
        perturb: Callable[[Tensor], Tensor],
        users: Tensor,
        items: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)  # most layers have none
        ctx.operators, ctx.weights, ctx.shapes = operators, weights, (users.shape, items.shape)
        total = [weights[0] * side for side in (users, items)] if weights[0] else []
        found: list[Tensor] = []
        for (operator, _), weight in zip(operators, weights[1:], strict=True):
            users, items = map(perturb, _step(operator, users, items, 1.0))
            found += users, items
            if total:
                for sums, side in zip(total, (users, items), strict=True):
                    sums.add_(side, alpha=weight)
            else:
                total = [weight * users, weight * items]
        return *total, *found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        like = next((each for each in gradients if each is not None), None)
        if like is None:
            return None, None, None, None, None
        of_sum = [
            like.new_zeros(shape) if each is None else each for each, shape in zip(gradients, ctx.shapes, strict=False)
        ]
        of_layers = gradients[2:]
        operator, transposed = ctx.operators[0]
        if all(each is None for each in of_layers) and all(each is operator for each, _ in ctx.operators):
            return None, None, None, *_LayerSum.apply(transposed, operator, ctx.weights, *of_sum)
        hidden, scale = of_sum, ctx.weights[-1]
        for layer in reversed(range(len(ctx.operators))):  # what arrives at layer + 1 passes on to layer
            own = of_layers[2 * layer : 2 * layer + 2]
            if any(each is not None for each in own):
                hidden = [
                    scale * here if each is None else each.add(here, alpha=scale)
                    for here, each in zip(hidden, own, strict=True)
                ]
                scale = 1.0
            operator, transposed = ctx.operators[layer]
            hidden = list(_LayerSum.apply(transposed, operator, (0.0, scale), *hidden))
            scale = 1.0
            for here, each in zip(hidden, of_sum, strict=True):
                here.add_(each, alpha=ctx.weights[layer])
        return None, None, None, *hidden


def _polynomial(operator: AnyOperator, weights: Sequence[float], users: Tensor, items: Tensor) -> Vectors:
    """Σₖ αₖ Âᵏ x by Horner's rule, α₀ x + Â (α₁ x + Â (… + Â α_L x)), accumulating in the memory of each product.

    If α₀ = α₁, α₂ = α₃ and so on, as in a mean over an odd L, this is Σⱼ α₂ⱼ Â²ʲ (1 + Â) x, with half the sums.
    """
    products = 1
    if len(weights) > 2 and tuple(weights[::2]) == tuple(weights[1::2]):
        users, items = _polynomial(operator, (1.0, 1.0), users, items)
        weights, products = weights[::2], 2
    *lower, scale = weights
    if not lower:
        return scale * users, scale * items
    hidden_users, hidden_items = users, items
    for weight in reversed(lower):
        for _ in range(products):
            hidden_users, hidden_items = _step(operator, hidden_users, hidden_items, scale)
            scale = 1.0
        if weight:
            hidden_users.add_(users, alpha=weight)
            hidden_items.add_(items, alpha=weight)
    return hidden_users, hidden_items


def _step(operator: AnyOperator, users: Tensor, items: Tensor, scale: float) -> Vectors:
    """scale · Â (users, items)."""
    new_users, new_items = product(operator.user_item, items, scale), product(operator.item_user, users, scale)
    if isinstance(operator, Operator):
        if operator.user_user is not None:
            new_users.add_(product(operator.user_user, users, scale))
        if operator.item_item is not None:
            new_items.add_(product(operator.item_item, items, scale))
    return new_users, new_items


def product(matrix: Tensor | Factored, vectors: Tensor, scale: float) -> Tensor:
    """scale · matrix @ vectors.

    On a CPU, torch's `embedding_bag` multiplies by a CSR matrix faster than `torch.sparse.mm` and `addmm`: it sums
    weighted rows of a table, which is the same product, and its kernels prefetch the rows they gather. Both halves of
    Gowalla's Â, two cores, 64 dimensions: 2.6 ms against 7.5 (`mm`) and 5.7 (`addmm`, which need not zero-fill first);
    the smallest gain was 1.2 times over `addmm`, on ML-100K with 32 dimensions.
    """
    if isinstance(matrix, Factored):
        return matrix.product(vectors, scale)
    if vectors.device.type != "cpu":
        with torch.autocast(vectors.device.type, enabled=False):  # CSR products do not support bfloat16
            return torch.addmm(vectors.new_zeros(()), matrix, vectors, beta=0, alpha=scale)
    values = matrix.values() if scale == 1 else scale * matrix.values()
    starts, columns = matrix.crow_indices(), matrix.col_indices()
    return F.embedding_bag(columns, vectors, starts, mode="sum", per_sample_weights=values, include_last_offset=True)
