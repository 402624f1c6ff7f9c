"""The graph of users and items, and its normalised adjacency."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recgraph.errors import DataError
from recgraph.graph.links import Links
from recgraph.graph.operator import Operator, Pattern, inverse_power
from recgraph.graph.sparse import csr_tensor, row_starts, row_sums


@dataclass(frozen=True, eq=False)
class BipartiteGraph:
    """Holds the edges between users and items; made by `from_edges`, which checks and sorts, unlike the constructor.

    Attributes:
        users: user of each edge; edges are sorted by (user, item) and none is repeated.
        items: item of each edge.
        num_users: users, with or without edges.
        num_items: items, with or without edges.
        by_item: positions of the edges in the order (item, user).
        weights: of each edge, 0 or more; None where all are 1.
        exponents: (α, β) of Â; see `normalised`.
        user_links, item_links: links among users, and among items; see `linked`.
    """

    users: Int[Tensor, "edges"]
    items: Int[Tensor, "edges"]
    num_users: int
    num_items: int
    by_item: Int[Tensor, "edges"]
    weights: Float[Tensor, "edges"] | None = None
    exponents: tuple[float, float] = (0.5, 0.5)
    user_links: Links | None = None
    item_links: Links | None = None

    @classmethod
    def from_edges(
        cls,
        users: Int[Tensor, "edges"] | Int[np.ndarray, "edges"],
        items: Int[Tensor, "edges"] | Int[np.ndarray, "edges"],
        num_users: int,
        num_items: int,
    ) -> BipartiteGraph:
        """Build a graph from edges in any order.

        Args:
            users: user of each edge, in [0, num_users).
            items: item of each edge, in [0, num_items).
            num_users: users, with or without edges.
            num_items: items, with or without edges.

        Raises:
            DataError: shapes or types are wrong, an index is out of range or an edge is repeated; the message
                names the first such edge by its position in the arguments.
        """
        users, items = _indices(users, "user", num_users), _indices(items, "item", num_items)
        if len(users) != len(items):
            raise DataError(f"{len(users)} users but {len(items)} items: an edge needs one of each")
        key, order = torch.sort(users * num_items + items, stable=True)
        repeated = order[1:][key[1:] == key[:-1]]
        if len(repeated):
            edge = int(repeated.min())
            raise DataError(
                f"edge {edge} (user {int(users[edge])}, item {int(items[edge])}) repeats an earlier one; "
                "expected each pair once"
            )
        users, items = users[order], items[order]
        return cls(users, items, num_users, num_items, torch.argsort(items, stable=True))

    @property
    def num_edges(self) -> int:
        """The number of interactions; each counts once, though Â holds it twice."""
        return len(self.users)

    @cached_property
    def user_degrees(self) -> Int[Tensor, "users"]:
        """The number of edges of each user, whatever their weights."""
        return self.pattern.user_starts.diff().long()

    @cached_property
    def item_degrees(self) -> Int[Tensor, "items"]:
        """The number of edges of each item, whatever their weights."""
        return self.pattern.item_starts.diff().long()

    @cached_property
    def operator(self) -> Operator:
        """Â in float32, built on first use."""
        return self._built(torch.float32, *self.exponents)

    @cached_property
    def transposed(self) -> Operator:
        """Âᵀ in float32, which the backward pass multiplies by; Â itself if it is symmetric."""
        alpha, beta = self.exponents
        return self.operator if alpha == beta else self._built(torch.float32, beta, alpha)

    def operators_in(self, dtype: torch.dtype) -> tuple[Operator, Operator]:
        """Â and Âᵀ in another precision. Only float32, the precision of training, is cached."""
        if dtype == torch.float32:
            return self.operator, self.transposed
        (alpha, beta), one = self.exponents, self._built(dtype, *self.exponents)
        return one, one if alpha == beta else self._built(dtype, beta, alpha)

    def normalised(self, alpha: float, beta: float) -> BipartiteGraph:
        """The graph whose Â is D^-α A D^-β: itself if its exponents agree, else a cached variant.

        (½, ½) is LightGCN's, (1, 0) the mean over neighbours. Everything that depends on the edges alone is shared.

        Args:
            alpha: exponent of the degree of the receiving node.
            beta: exponent of the degrees of its neighbours, whose vectors are summed.
        """
        exponents = (float(alpha), float(beta))
        if exponents == self.exponents:
            return self
        if exponents not in self._others:
            self._others[exponents] = self._sharing_edges(exponents=exponents)
        return self._others[exponents]

    def keep(self, mask: Bool[Tensor, "edges"]) -> BipartiteGraph:
        """The graph of the edges where `mask` is True, with their weights; all users and items stay.

        Degrees, and hence Â, are those of the kept edges, as in the code of SGL (Wu et al. 2021, arXiv 2010.10783).
        Takes time linear in the edges and sorts nothing. On CUDA the host waits for the number of kept edges, which
        decides the shapes. If edges are dropped anew in each step, `reweighted` with `mask.float()` gives the same Â at
        a fraction of the cost, without waiting.

        Raises:
            ValueError: `mask` is not boolean, or does not have one value per edge.
        """
        self._check_aligned(mask, "mask", mask.dtype == torch.bool, "torch.bool")
        kept = mask.nonzero().squeeze(1)
        position = mask.cumsum(0) - 1  # of each kept edge among the kept
        by_item = position[self.by_item[mask[self.by_item]]]
        weights = None if self.weights is None else self.weights[kept]
        return replace(self, users=self.users[kept], items=self.items[kept], by_item=by_item, weights=weights)

    def reweighted(self, weights: Float[Tensor, "edges"]) -> BipartiteGraph:
        """The graph with other weights on the same edges; degrees, and hence Â, follow the weights.

        An edge of weight 0 counts as dropped, as does a node whose edges all have weight 0. Only the values of Â are
        recomputed; everything that depends on the edges alone is shared with this graph.

        Args:
            weights: new weight of each edge, 0 or more (not checked: that would stall a GPU).

        Raises:
            ValueError: `weights` is not floating point, does not have one value per edge, or requires a gradient, which
                propagation does not give (`recgraph.graph.attention` does).
        """
        self._check_aligned(weights, "weights", weights.is_floating_point(), "floating point")
        if weights.requires_grad:
            raise ValueError("weights requires a gradient, and none reaches the weights of a graph; detach it")
        return self._sharing_edges(weights=weights)

    def linked(self, users: Links | None = None, items: Links | None = None) -> BipartiteGraph:
        """The graph with other links: a link of weight w counts as w interactions, in Â and in its degrees.

        A node without interactions is thus reached through its links, and its vectors are as long as others.
        `user_degrees` and `item_degrees` still count interactions alone.

        Raises:
            ValueError: the links are for another number of users or items.
        """
        for links, name, size in ((users, "users", self.num_users), (items, "items", self.num_items)):
            if links is not None and links.size != size:
                raise ValueError(f"links among {links.size} {name} do not fit {self}")
        return self._sharing_edges(user_links=users, item_links=items)

    @property
    def has_links(self) -> bool:
        """Whether the graph has links."""
        return self.user_links is not None or self.item_links is not None

    def _sharing_edges(self, **changes: Any) -> BipartiteGraph:
        other = replace(self, **changes)
        other.__dict__["pattern"] = self.pattern  # where cached_property stores it
        return other

    @cached_property
    def _others(self) -> dict[tuple[float, float], BipartiteGraph]:
        """The same edges and weights, normalised by other exponents."""
        return {}

    def _check_aligned(self, values: Tensor, name: str, right_type: bool, expected: str) -> None:
        if not right_type or values.shape != self.users.shape:
            raise ValueError(
                f"{name} is {values.dtype} of shape {list(values.shape)}; expected {expected} of [{self.num_edges}]"
            )

    def to(self, device: torch.device | str) -> BipartiteGraph:
        """The graph on `device`: itself, with its cached operator, if it is already there."""
        users = self.users.to(device)
        if users is self.users:
            return self
        moved: dict[str, Any] = {
            name: None if value is None else value.to(device)
            for name in ("items", "by_item", "weights", "user_links", "item_links")
            for value in [getattr(self, name)]
        }
        return replace(self, users=users, **moved)

    def __repr__(self) -> str:
        return (
            f"BipartiteGraph({self.num_users} users, {self.num_items} items, {self.num_edges} edges, "
            f"{self.users.device})"
        )

    @cached_property
    def pattern(self) -> Pattern:
        """The non-zero pattern of Â."""
        by_item = self.by_item
        return Pattern(
            user_starts=row_starts(self.users, self.num_users),
            items=self.items.int(),
            item_starts=row_starts(self.items[by_item], self.num_items),
            users=self.users[by_item].int(),
        )

    def _built(self, dtype: torch.dtype, alpha: float, beta: float) -> Operator:
        to_users = self._values(dtype, alpha, beta)
        to_items = to_users if alpha == beta else self._values(dtype, beta, alpha)
        among = (
            None if links is None else links.scaled(inverse_power(degrees, alpha), inverse_power(degrees, beta))
            for links, degrees in zip((self.user_links, self.item_links), self.degrees_in(dtype), strict=True)
        )
        return Operator(self.rows_of_users(to_users), self.rows_of_items(to_items), *among)

    def rows_of_users(self, values: Float[Tensor, "edges"]) -> Float[Tensor, "users items"]:
        """Edge values as a sparse matrix, in CSR form with int32 indices."""
        return csr_tensor(self.pattern.user_starts, self.pattern.items, values, (self.num_users, self.num_items))

    def rows_of_items(self, values: Float[Tensor, "edges"]) -> Float[Tensor, "items users"]:
        """The transpose of `rows_of_users`, likewise."""
        ordered = values.index_select(0, self.by_item)
        return csr_tensor(self.pattern.item_starts, self.pattern.users, ordered, (self.num_items, self.num_users))

    def _values(self, dtype: torch.dtype, of_user: float, of_item: float) -> Float[Tensor, "edges"]:
        """w / (d_u^of_user · d_i^of_item) of each edge."""
        if (
            self.weights is None and not self.has_links and of_user == of_item == 0.5
        ):  # saves one product, and is exact for integers
            degrees = self.user_degrees[self.users] * self.item_degrees[self.items]
            return degrees.to(dtype).rsqrt()
        user_degrees, item_degrees = self.degrees_in(dtype)
        user_scale, item_scale = inverse_power(user_degrees, of_user), inverse_power(item_degrees, of_item)
        values = user_scale.index_select(0, self.users) * item_scale.index_select(0, self.items)
        return values if self.weights is None else self.weights.to(dtype) * values

    def degrees_in(self, dtype: torch.dtype) -> tuple[Float[Tensor, "users"], Float[Tensor, "items"]]:
        """For each user and each item, the sum of the weights of its edges and links."""
        if self.weights is None:
            users, items = self.user_degrees.to(dtype), self.item_degrees.to(dtype)
        else:
            weights, pattern = self.weights.to(dtype), self.pattern
            users = row_sums(weights, pattern.user_starts)
            items = row_sums(weights.index_select(0, self.by_item), pattern.item_starts)
        both = ((users, self.user_links), (items, self.item_links))
        users, items = (own if links is None else own + links.degrees.to(dtype) for own, links in both)
        return users, items


def _indices(values: Tensor | np.ndarray, kind: str, count: int) -> Int[Tensor, "edges"]:
    """Node indices as a checked int64 vector."""
    indices = values if isinstance(values, Tensor) else torch.tensor(values)
    if indices.dim() != 1 or indices.is_floating_point() or indices.dtype == torch.bool:
        raise DataError(
            f"{kind}s of edges: expected integers of shape [edges], got {indices.dtype} {list(indices.shape)}"
        )
    indices = indices.long()
    outside = ((indices < 0) | (indices >= count)).nonzero()
    if len(outside):
        edge = int(outside[0])
        raise DataError(f"edge {edge}: {kind} {int(indices[edge])} is outside [0, {count})")
    return indices
