"""Towers from modalities to vectors: a network per modality, and attention that weighs the modalities of each row.

The attention follows Yang et al., "Hierarchical attention networks for document classification", NAACL 2016, section
2.2, with modalities in place of words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recgraph.errors import ConfigError
from recgraph.numerics.dropout import Dropout
from recgraph.numerics.matmul import Linear
from recgraph.types import Modality

Fusion = Literal["attention", "mean"]
"""How several modalities become one vector."""


class Experts(nn.Module):
    """Sums several networks' outputs, weighted by gates that read the same input.

        Σₑ tanh(⟨wₑ, x⟩ + bₑ) · networkₑ(x)

    This is the mixture of experts of Heater (Zhu et al., "Recommendation for new users and new items via randomized
    training and mixture-of-experts transformation", SIGIR 2020, https://doi.org/10.1145/3397271.3401178), without the
    final tanh of the authors' code (https://github.com/Zziwei/Heater--Cold-Start-Recommendation, model.py): where only
    the direction of a tower's output is used (`hybrid`), it would merely distort it.

    Args:
        width: width of the input.
        networks: the experts.
    """

    def __init__(self, width: int, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.gate, self.networks = Linear(width, len(networks)), nn.ModuleList(networks)

    def forward(self, values: Float[Tensor, "rows width"]) -> Float[Tensor, "rows dim"]:
        """The weighted sum for each row."""
        gates = self.gate(values).tanh().unbind(1)
        return torch.stack([gate[:, None] * one(values) for gate, one in zip(gates, self.networks, strict=True)]).sum(0)


class Tower(nn.Module):
    """Turns the modalities of each user or item into one vector.

        hₘ = MLPₘ(LayerNorm(xₘ)),  h = Σₘ aₘ hₘ,  a = softmaxₘ(⟨c, tanh(W hₘ + b)⟩)

    Sum and softmax run over the modalities present. A row with none gets the mean vector of the rows with some, as if
    it were average: its inner product with a query is the mean of theirs, so it is never ranked first or last. Where
    lengths are normalised (head `cosine`, encoder `hybrid`), this mean, shorter than the average vector, is stretched:
    it may be ranked first for a user near the average. If no row has any, all are zeros.

    LayerNorm removes a row's mean and scale, which unit-length vectors do not need; its own scale and shift are not
    learned, since a layer follows. A modality of a single number, such as a year, is already standardised and skips
    LayerNorm, which would leave nothing; of two numbers, it leaves only which is larger, so give each number a modality
    of its own.

    Args:
        modalities: name -> modality; only widths are read.
        dim: width of the vectors.
        hidden: width of the MLPs' one hidden layer; 0 for none, which leaves a linear map.
        dropout: fraction of the hidden layer (of the input, if there is none) that is zeroed in training.
        experts: number of MLPs for each modality; several are summed with gates (`Experts`).
        fusion: "attention", as above, or "mean", which weighs all present modalities equally.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        *,
        dim: int,
        hidden: int,
        dropout: float,
        experts: int = 1,
        fusion: Fusion = "attention",
    ) -> None:
        super().__init__()
        towers = {}
        for name, (values, _) in modalities.items():
            if not values.is_floating_point():
                raise ConfigError(f"content.{name}: this encoder makes layers over vectors: leave out `ids: true`")
            width = values.shape[1]

            def network(width: int = width) -> list[nn.Module]:
                first: list[nn.Module] = [Linear(width, hidden), nn.GELU()] if hidden else []
                return [*first, Dropout(dropout), Linear(hidden or width, dim)]

            several = (
                [Experts(width, [nn.Sequential(*network()) for _ in range(experts)])] if experts > 1 else network()
            )
            norm = nn.LayerNorm(width, elementwise_affine=False) if width > 1 else nn.Identity()
            towers[name] = nn.Sequential(norm, *several)
        self.towers = nn.ModuleDict(towers)
        self.attend: nn.Module | None = None
        if len(towers) > 1 and fusion == "attention":
            self.attend = nn.Sequential(Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 1, bias=False))

    def forward(self, modalities: Mapping[str, Modality]) -> Float[Tensor, "rows dim"]:
        """The vector of each row."""
        hidden, present = self._hidden(modalities)
        vectors = (self._weigh(hidden, present).unsqueeze(-1) * hidden).sum(1)
        some = present.any(1, keepdim=True)
        mean = vectors.sum(0) / some.sum().clamp(min=1)
        return torch.where(some, vectors, mean)

    def weights(self, modalities: Mapping[str, Modality]) -> dict[str, Float[Tensor, "rows"]]:
        """The weight of each modality in each row: they sum to 1, or are 0 for a row without any."""
        found = self._weigh(*self._hidden(modalities))
        return dict(zip(self.towers, found.T, strict=True))

    def _hidden(self, modalities: Mapping[str, Modality]) -> tuple[Tensor, Tensor]:
        found = [tower(modalities[name].values) for name, tower in self.towers.items()]
        return torch.stack(found, 1), torch.stack([modalities[name].present for name in self.towers], 1)

    def _weigh(self, hidden: Tensor, present: Tensor) -> Tensor:
        if self.attend is None:
            return present / present.sum(1, keepdim=True).clamp(min=1)
        # Lowest finite number: a row of only -∞ has no softmax; the product then sets such rows to zero.
        scores = self.attend(hidden).squeeze(-1)
        return scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(1) * present
