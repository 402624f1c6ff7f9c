"""What makes a vector of modalities: networks for each, and attention that says which of them a row goes by.

The attention is that of Yang et al., "Hierarchical attention networks for document classification", NAACL 2016, section
2.2, over modalities in place of words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recgraph.dropout import Dropout
from recgraph.errors import ConfigError
from recgraph.matmul import Linear
from recgraph.types import Modality

Fusion = Literal["attention", "mean"]
"""How several modalities become one vector."""


class Experts(nn.Module):
    """The sum of several networks' outputs, weighted by gates that look at the same input.

        Σₑ tanh(⟨wₑ, x⟩ + bₑ) · networkₑ(x)

    The mixture of experts of Heater (Zhu et al., "Recommendation for new users and new items via randomized training
    and mixture-of-experts transformation", SIGIR 2020, https://doi.org/10.1145/3397271.3401178), without the tanh of
    the sum in the authors' code (https://github.com/Zziwei/Heater--Cold-Start-Recommendation, model.py): where a tower
    ends in a direction (`hybrid`), it would only bend it.

    Args:
        width: of the input.
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
    """Turns the modalities of users, or of items, into one vector for each.

        hₘ = MLPₘ(LayerNorm(xₘ)),  h = Σₘ aₘ hₘ,  a = softmaxₘ(⟨c, tanh(W hₘ + b)⟩)

    over the modalities that are present. One with none of them gets the mean vector of those with any: unknown is taken
    for average. An inner product with it is the mean of theirs, so it is never ranked first or last. Where lengths are
    taken away (head `cosine`, encoder `hybrid`), the mean, which is shorter than they are in the mean, is stretched: it
    may be ranked first for a user near the average. If nobody has any, all are zeros.

    LayerNorm takes away a row's own mean and length, which vectors of length 1 can do without; it learns no scale and
    shift, which the layer after it has. A modality of a single number, such as a year, which is standardised already,
    goes without it, for nothing would be left; of two numbers in one modality it leaves which is larger, so numbers are
    better off as modalities of their own.

    Args:
        modalities: name -> modality; only widths are read.
        dim: width of the vectors.
        hidden: width of the MLPs' one hidden layer; 0 for none, which leaves a linear map.
        dropout: fraction of the hidden layer, or without one of the input, that is zeroed in training.
        experts: MLPs of each modality; of several, the sum weighted by gates is taken (`Experts`).
        fusion: "attention", as above, or "mean", where all modalities that are present weigh alike.
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
        """How much of each row's vector is of each modality: they add up to 1, or are 0 for a row without any."""
        found = self._weigh(*self._hidden(modalities))
        return dict(zip(self.towers, found.T, strict=True))

    def _hidden(self, modalities: Mapping[str, Modality]) -> tuple[Tensor, Tensor]:
        found = [tower(modalities[name].values) for name, tower in self.towers.items()]
        return torch.stack(found, 1), torch.stack([modalities[name].present for name in self.towers], 1)

    def _weigh(self, hidden: Tensor, present: Tensor) -> Tensor:
        if self.attend is None:
            return present / present.sum(1, keepdim=True).clamp(min=1)
        # The lowest finite number, for a row of nothing but -∞ has no softmax; the product then makes it zeros.
        scores = self.attend(hidden).squeeze(-1).masked_fill(~present, torch.finfo(hidden.dtype).min)
        return scores.softmax(1) * present
