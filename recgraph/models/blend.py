"""A blend of two models at scoring time, such as a trained encoder and a graph filter.

A filter captures without training what an encoder has to learn, and an encoder captures what no fixed filter can. Where
their errors differ, the mean of their scores is better than both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.data.interactions import Interactions
from recgraph.models.model import Model, Scorer
from recgraph.registry import locate


class Blend(Model):
    """(1 - weight) · standardised scores of one model + weight · those of another.

    Each model's scores of a user over the whole catalogue are standardised to mean 0 and standard deviation 1 before
    they are added. So both models have the same scale for every user, with three interactions or a thousand, and
    setting the scale needs no interactions. A model that scores all items equally adds nothing.

    Args:
        recommender, baseline: the two models, on the same catalogue.
        weight: of the baseline, in [0, 1]; 0 ranks as the recommender does, 1 as the baseline.
    """

    def __init__(self, recommender: Model, baseline: Model, *, weight: float) -> None:
        super().__init__(recommender.num_users, recommender.num_items)
        self.recommender, self.baseline, self.weight = recommender, baseline, weight

    def observe(self, interactions: Interactions) -> None:
        """See `Model.observe`; applies to both models."""
        for part in self._parts().values():
            part.observe(interactions)

    def scorer(self) -> Scorer:
        """See `Model.scorer`."""
        return self.sweep([self.weight])

    def sweep(self, weights: Sequence[float]) -> Scorer:
        """A scorer for several weights, in which each model scores a user only once.

        Its input must repeat every user consecutively, once per weight; its output has one row for each weight.
        """
        one, other = self.recommender.scorer(), self.baseline.scorer()
        all_weights = torch.tensor(weights, device=self.device)[:, None]

        def scores(users: Int[Tensor, "batch"]) -> Float[Tensor, "batch items"]:
            distinct = users[:: len(weights)]
            start, end = (standardised(part(distinct)).unsqueeze(1) for part in (one, other))
            return torch.lerp(start, end, all_weights.to(start)).flatten(0, 1)

        return scores

    def options(self) -> dict[str, Any]:
        """The weight, and the class and options of both models."""
        parts = {
            name: {"class": f"{type(part).__module__}:{type(part).__qualname__}", "options": part.options()}
            for name, part in self._parts().items()
        }
        return {"weight": self.weight, **parts}

    def extra_tensors(self) -> dict[str, Tensor]:
        """Those of both models, with "recommender." or "baseline." before their names."""
        return {
            f"{name}.{key}": value
            for name, part in self._parts().items()
            for key, value in part.extra_tensors().items()
        }

    @classmethod
    def rebuild(cls, num_users: int, num_items: int, options: dict[str, Any], tensors: dict[str, Tensor]) -> Blend:
        """See `Model.rebuild`."""
        parts: dict[str, Model] = {}
        for name in ("recommender", "baseline"):
            kind: type[Model] = locate(options[name]["class"])
            own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
            parts[name] = kind.rebuild(num_users, num_items, options[name]["options"], own)
        return cls(**parts, weight=options["weight"])

    def _parts(self) -> dict[str, Model]:
        return {"recommender": self.recommender, "baseline": self.baseline}


def standardised(scores: Float[Tensor, "batch items"]) -> Float[Tensor, "batch items"]:
    """Each row with mean 0 and standard deviation 1; a constant row becomes 0."""
    deviation, mean = torch.std_mean(scores, -1, keepdim=True, correction=0)
    # Rounding gives a constant row a deviation of about 1e-7 of its values, which must not be scaled up to 1.
    smallest = 1e-6 * mean.abs() + torch.finfo(scores.dtype).tiny
    return (scores - mean) / torch.where(deviation > smallest, deviation, torch.inf)
