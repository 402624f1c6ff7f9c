"""How tasks share a representation: experts between the encoder's vectors and the tasks' heads.

Without experts, all tasks read the same vectors (hard sharing). Users' vectors (queries) and items' vectors have
separate experts. A task has a gate only on the sides that it reads: a label of items has none on users.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recgraph.errors import suggest
from recgraph.registry import sharings
from recgraph.types import NonNegativeInt, PositiveInt

RANK = "rank"
"""The task shared by all heads that score items for a query."""


class Experts(nn.Module):
    """Several networks of one hidden layer side by side: x ↦ V ReLU(W x + b) + c, each with its own W, b, V and c.

    Args:
        dim: width of the input and the output.
        count: number of experts.
        hidden: width of the hidden layer.
    """

    def __init__(self, dim: int, count: int, hidden: int) -> None:
        super().__init__()
        self.first, self.first_bias = _uniform(dim, count, dim, hidden), _uniform(dim, count, hidden)
        self.second, self.second_bias = _uniform(hidden, count, hidden, dim), _uniform(hidden, count, dim)

    def forward(self, vectors: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch experts dim"]:
        """The output of each expert for each vector."""
        hidden = torch.einsum("...d,edh->...eh", vectors, self.first) + self.first_bias
        return torch.einsum("...eh,ehd->...ed", hidden.relu(), self.second) + self.second_bias


def _uniform(fan_in: int, *shape: int) -> nn.Parameter:
    """A parameter drawn from U(±1/√fan_in), as in torch's own linear layers."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


class Side(nn.Module):
    """The experts and gates of one side.

    Args:
        dim: width of its vectors.
        tasks: the tasks that read this side.
    """

    def __init__(self, dim: int, tasks: Sequence[str]) -> None:
        super().__init__()
        self.dim, self.tasks = dim, tuple(tasks)

    def mix(
        self, vectors: Float[Tensor, "*batch dim"]
    ) -> dict[str, tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch experts"]]]:
        """For each task, the mixture of its experts and the weights of these, which are positive and sum to 1."""
        raise NotImplementedError


class Sharing(nn.Module):
    """Base class: gives each task its own version of the shared query and item vectors.

    Args:
        dim: width of query and item vectors.
        query: tasks that read queries.
        items: tasks that read items.
        residual: give each task the encoder's vector plus the mixture. The papers give it the mixture alone, which
            destroys the geometry of graph encoders' inner products, since experts are initialised at random.
    """

    def __init__(self, dim: int, query: Sequence[str], items: Sequence[str], *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.tasks = {"query": tuple(query), "item": tuple(items)}
        self.sides = nn.ModuleDict({"query": self.side(dim, query), "item": self.side(dim, items)})

    def side(self, dim: int, tasks: Sequence[str]) -> Side:
        """The experts and gates of a side."""
        raise NotImplementedError

    def expert_names(self, side: str, task: str) -> tuple[str, ...]:
        """Names of the experts that a task's gate weights, in the order of the weights."""
        raise NotImplementedError

    def forward(self, side: str, vectors: Float[Tensor, "*batch dim"]) -> dict[str, Float[Tensor, "*batch dim"]]:
        """The vectors that each task gets on a side ("query" or "item"), for the tasks that read it."""
        mixed = self.sides[side].mix(vectors)  # type: ignore[operator]  # a ModuleDict holds any module
        return {task: vectors + mixture if self.residual else mixture for task, (mixture, _) in mixed.items()}

    def gates(self, side: str, vectors: Float[Tensor, "*batch dim"]) -> Mapping[str, Float[Tensor, "*batch experts"]]:
        """For each task that reads a side, the weights of its `expert_names`, for each vector."""
        mixed = self.sides[side].mix(vectors)  # type: ignore[operator]
        return {task: weights for task, (_, weights) in mixed.items()}

    def check(self, side: str, task: str) -> None:
        """Refuse a task that does not read a side.

        Raises:
            KeyError: with the nearest name.
        """
        if task not in self.tasks[side]:
            raise KeyError(f"no task {task!r} reads the side {side!r}. {suggest(task, self.tasks[side])}")


@sharings.register("mmoe")
class MMoE(Sharing):
    """Multi-gate mixture of experts: task k reads Σₑ gᵏₑ(x) fₑ(x), with gᵏ(x) = softmax(Wᵏ x).

    All experts are shared. Ma et al., "Modeling task relationships in multi-task learning with multi-gate
    mixture-of-experts", KDD 2018, https://doi.org/10.1145/3219819.3220007. The paper's experts end in a ReLU; here they
    end in a linear layer, since inner products need both signs.

    Args:
        dim, query, items: see `Sharing`.
        experts: number of experts (8 in the paper's experiments).
        hidden: width of an expert's hidden layer.
        residual: see `Sharing`.
    """

    def __init__(
        self,
        dim: int,
        query: Sequence[str],
        items: Sequence[str],
        *,
        experts: PositiveInt = 8,
        hidden: PositiveInt = 64,
        residual: bool = True,
    ) -> None:
        self.experts, self.hidden = experts, hidden
        super().__init__(dim, query, items, residual=residual)

    def side(self, dim: int, tasks: Sequence[str]) -> Side:
        """See `Sharing`."""
        return _MMoESide(dim, tasks, self.experts, self.hidden)

    def expert_names(self, side: str, task: str) -> tuple[str, ...]:
        """See `Sharing`."""
        self.check(side, task)
        return tuple(f"shared {number + 1}" for number in range(self.experts))


class _MMoESide(Side):
    def __init__(self, dim: int, tasks: Sequence[str], experts: int, hidden: int) -> None:
        super().__init__(dim, tasks)
        self.experts = Experts(dim, experts, hidden)
        self.gates = nn.ModuleDict({task: nn.Linear(dim, experts, bias=False) for task in tasks})

    def mix(self, vectors: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        made = self.experts(vectors)
        weights = {task: self.gates[task](vectors).softmax(-1) for task in self.tasks}
        return {task: (_mixture(weight, made), weight) for task, weight in weights.items()}


@sharings.register("ple")
class PLE(Sharing):
    """Progressive layered extraction: levels of task-specific and shared experts.

    In each level, task k mixes its own and the shared experts by a gate on its vector from the level before. Below the
    last level, a mixture of all experts is the input of the next level's shared experts. Tang et al., "Progressive
    layered extraction (PLE): a novel multi-task learning (MTL) model for personalized recommendations", RecSys 2020,
    https://doi.org/10.1145/3383313.3412236, section 4. One level is the paper's CGC. Experts end in a linear layer, as
    in `mmoe`.

    Args:
        dim, query, items: see `Sharing`.
        shared: experts that all tasks share, in each level.
        own: experts of each task, in each level.
        levels: number of levels.
        hidden: width of an expert's hidden layer.
        residual: see `Sharing`; added once, around all levels.
    """

    def __init__(
        self,
        dim: int,
        query: Sequence[str],
        items: Sequence[str],
        *,
        shared: PositiveInt = 4,
        own: NonNegativeInt = 2,
        levels: PositiveInt = 1,
        hidden: PositiveInt = 64,
        residual: bool = True,
    ) -> None:
        self.shared, self.own, self.levels, self.hidden = shared, own, levels, hidden
        super().__init__(dim, query, items, residual=residual)

    def side(self, dim: int, tasks: Sequence[str]) -> Side:
        """See `Sharing`."""
        return _PLESide(dim, tasks, self.shared, self.own, self.levels, self.hidden)

    def expert_names(self, side: str, task: str) -> tuple[str, ...]:
        """See `Sharing`; the experts of the last level."""
        self.check(side, task)
        own = (f"{task} {number + 1}" for number in range(self.own))
        return (*own, *(f"shared {number + 1}" for number in range(self.shared)))


class _PLESide(Side):
    def __init__(self, dim: int, tasks: Sequence[str], shared: int, own: int, levels: int, hidden: int) -> None:
        super().__init__(dim, tasks)
        self.levels = nn.ModuleList(
            _Level(dim, tasks, shared, own, hidden, last=number == levels - 1) for number in range(levels)
        )

    def mix(self, vectors: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        found = dict.fromkeys(self.tasks, (vectors, vectors))
        common = vectors
        for level in self.levels:
            found, common = level({task: vector for task, (vector, _) in found.items()}, common)
        return found


class _Level(nn.Module):
    def __init__(self, dim: int, tasks: Sequence[str], shared: int, own: int, hidden: int, *, last: bool) -> None:
        super().__init__()
        self.shared = Experts(dim, shared, hidden)
        self.own = nn.ModuleDict({task: Experts(dim, own, hidden) for task in tasks} if own else {})
        self.gates = nn.ModuleDict({task: nn.Linear(dim, own + shared, bias=False) for task in tasks})
        self.shared_gate = None if last else nn.Linear(dim, own * len(tasks) + shared, bias=False)

    def forward(self, vectors: Mapping[str, Tensor], common: Tensor) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor]:
        shared = self.shared(common)
        own = {task: self.own[task](vector) for task, vector in vectors.items()} if len(self.own) else {}
        found = {}
        for task, vector in vectors.items():
            weight = self.gates[task](vector).softmax(-1)
            found[task] = _mixture(weight, torch.cat([own[task], shared], -2) if own else shared), weight
        if self.shared_gate is not None:
            weight = self.shared_gate(common).softmax(-1)
            common = _mixture(weight, torch.cat([*own.values(), shared], -2))
        return found, common


def _mixture(weights: Float[Tensor, "*batch experts"], made: Float[Tensor, "*batch experts dim"]) -> Tensor:
    return torch.einsum("...e,...ed->...d", weights, made)
