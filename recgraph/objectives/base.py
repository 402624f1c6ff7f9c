"""What an objective is, and how several are added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from recgraph.encoders.base import Encoder
from recgraph.encoders.sequential import SequenceEncoder
from recgraph.errors import ConfigError
from recgraph.models.sharing import RANK
from recgraph.objectives.balance import Balance
from recgraph.types import Batch, Encoding, Inputs

if TYPE_CHECKING:
    from recgraph.models.recommender import Recommender


class Objective(nn.Module):
    """A loss: the **mean** over the valid rows of a batch, so that a weight means the same thing everywhere.

    An objective may own parameters; they are trained with the model.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """Optional fields of `Batch` that the objective reads, such as "negatives"; nothing else is built for it."""

    of_parameters: ClassVar[bool] = False
    """Whether it depends on parameters alone, whatever the rows and vectors of a batch mean."""

    compares_sides: ClassVar[bool] = False
    """Whether it reads `Encoding.sides`, which only encoders that are `two_sided` give."""

    compares_layers: ClassVar[bool] = False
    """Whether it reads `Encoding.layers`, which only encoders that are `layered` give."""

    compares_tables: ClassVar[bool] = False
    """Whether it reads vectors of all users, which encoders of histories do not have."""

    compares_histories: ClassVar[bool] = False
    """Whether it compares queries from two histories, and so needs an encoder that reads histories."""

    of_vectors: ClassVar[bool] = False
    """Whether it uses vectors alone and trains no head, although it belongs to the ranking task."""

    signed: ClassVar[bool] = False
    """Whether its value can fall below 0; then tasks cannot be weighted by its size."""

    task: ClassVar[str | None] = RANK
    """The task whose share of the representation it reads, if tasks have experts; None: the encoder's own vectors."""

    def begin_epoch(self, recommender: Recommender, epoch: int, generator: torch.Generator | None) -> None:
        """Prepare for an epoch; called by the trainer before its first batch.

        State kept from one epoch to the next belongs in the state_dict, which checkpoints save.

        Args:
            epoch: counted from 1, and on after an interruption.
            generator: that of the epoch's batches; None if no objective needs one.
        """

    def inputs(self, inputs: Inputs, batch: Batch) -> Inputs:
        """The inputs of the encoding that all objectives share: `inputs`, unless the objective changes them."""
        return inputs

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Float[Tensor, ""]:
        """The loss of one batch, given the shared encoding; `batch.inputs` is unchanged by any objective's `inputs`."""
        raise NotImplementedError


class Objectives(nn.Module):
    """A recipe: the weighted sum of named objectives over one shared encoding.

    Args:
        terms: role -> (weight, objective), in the order of the experiment file.
        balance: weighs some of them against each other; None leaves the weights as they are.
        balanced: the roles of the objectives that are balanced.
    """

    def __init__(
        self,
        terms: Mapping[str, tuple[float, Objective]],
        *,
        balance: Balance | None = None,
        balanced: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.weights = {role: weight for role, (weight, _) in terms.items()}
        self.terms = nn.ModuleDict({role: objective for role, (_, objective) in terms.items()})
        self.balance, self.balanced = balance, tuple(balanced)
        needs = [objective.needs for _, objective in terms.values()]
        self.needs = frozenset().union(*needs, balance.needs if balance is not None else ())

    def begin_epoch(self, recommender: Recommender, epoch: int, generator: torch.Generator | None) -> None:
        """See `Objective.begin_epoch`."""
        for term in self.terms.values():
            term.begin_epoch(recommender, epoch, generator)  # type: ignore[operator]  # a ModuleDict holds any module

    def factors(self) -> dict[str, float]:
        """The current factor of each balanced task's loss; empty if the balance does not weight losses."""
        if self.balance is None or not self.balance.weighs:
            return {}
        return dict(zip(self.balanced, self.balance.weights().tolist(), strict=True))

    def forward(self, recommender: Recommender, batch: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, "terms"]]:
        """Encode the batch once; return the total to minimise and each objective's value, detached and unweighted."""
        parts = self._parts(recommender, batch)
        total = torch.stack([self.weights[role] * part for role, part in parts.items()]).sum()
        return total, torch.stack([part.detach() for part in parts.values()])

    def backward(self, recommender: Recommender, batch: Batch) -> Float[Tensor, "terms"]:
        """Add the gradient of a batch to `.grad` of all parameters; returns each objective's value, as `forward`."""
        if self.balance is None:
            total, parts = self(recommender, batch)
            total.backward()
            return parts
        found = self._parts(recommender, batch)
        weighted = {role: self.weights[role] * part for role, part in found.items()}
        tasks = torch.stack([weighted.pop(role) for role in self.balanced])
        rest = torch.stack(list(weighted.values())).sum() if weighted else tasks.new_zeros(())
        self.balance.backward(tasks, rest, recommender.shared_parameters(), batch.generator)
        return torch.stack([part.detach() for part in found.values()])

    def _parts(self, recommender: Recommender, batch: Batch) -> dict[str, Tensor]:
        """Each objective's value; they share one encoding."""
        inputs = batch.inputs
        for term in self.terms.values():
            inputs = term.inputs(inputs, batch)  # type: ignore[operator]  # a ModuleDict holds any module
        encoding = recommender.encoder(inputs)
        if not isinstance(encoding, Encoding):
            names = type(recommender.encoder).__name__, type(encoding).__name__
            raise ConfigError("encoder: {} returned a {}; expected an Encoding".format(*names))
        shares = recommender.shares(encoding)
        parts = {}
        for role, term in self.terms.items():
            own = encoding if term.task is None else shares.get(str(term.task), encoding)
            parts[role] = term(recommender, batch, own)
            if shape := tuple(parts[role].shape):
                raise ConfigError(f"objectives.{role}: gave a tensor of shape {shape}; expected the mean over rows")
        return parts


def masked_mean(values: Float[Tensor, "*batch"], mask: Bool[Tensor, "*batch"] | None) -> Float[Tensor, ""]:
    """Mean over the rows where `mask` is True (all of them without a mask); 0 when there are none."""
    if mask is None:
        return values.sum() / max(1, values.numel())
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def negatives_of(batch: Batch) -> Int[Tensor, "rows negatives"]:
    """The batch's negatives, which training builds for objectives that need them.

    Raises:
        ValueError: it has none.
    """
    if batch.negatives is None:
        raise ValueError("the objective compares positives with negatives: give Batch `negatives`")
    return batch.negatives


def after_history(inputs: Inputs, encoder: Encoder) -> Inputs:
    """Inputs that ask for one query a row, after its last step.

    Where training asks at masked items (BERT4Rec), a history may be a step longer than the encoder reads otherwise: its
    first step is left out, and masked items stay masked.
    """
    if inputs.positions is None:
        return inputs
    history = inputs.history
    if history is not None and isinstance(encoder, SequenceEncoder):
        history = history[:, -encoder.max_length :]
    return replace(inputs, positions=None, history=history)
