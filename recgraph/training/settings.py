"""The `train:` block of an experiment file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator


class WideSettings(BaseModel):
    """The `train.wide:` block: a separate optimiser for the linear part of the encoder `fields` and of its heads."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    optimizer: Literal["adagrad", "ftrl"] = "ftrl"
    """The paper of wide & deep uses FTRL-Proximal for this part."""
    lr: PositiveFloat = 0.1
    """Its learning rate, constant over all steps."""
    l1: NonNegativeFloat = 0.0
    """L1 weight of FTRL: a parameter stays 0 until its summed gradients exceed it."""

    @model_validator(mode="after")
    def _of_ftrl(self) -> WideSettings:
        if self.l1 and self.optimizer != "ftrl":
            raise ValueError(f"l1 is of ftrl: it does nothing with {self.optimizer}")
        return self


class TrainSettings(BaseModel):
    """See the module."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    lr: PositiveFloat = 1e-3
    """Learning rate of Adam (1e-3 in LightGCN, NGCF and most of the field)."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls, step by step, to 0 after `max_epochs`."""
    warmup: NonNegativeFloat = 0.0
    """Epochs in which the learning rate first rises evenly to `lr`."""
    average: NonNegativeFloat = 0.0
    """Epochs over which weights are averaged: an exponential moving average with decay 1 - 1 / (average · steps per
    epoch). The average is what is validated, kept and saved. 0 for none."""
    batch_size: PositiveInt = 2048
    """Rows per step (2048 in LightGCN)."""
    draw_by: Literal["interaction", "user"] = "interaction"
    """The rows of an epoch: each interaction once; or as many draws of a user and then of one of their interactions,
    both uniform, so that all users count the same (as in the authors' code of LightGCN and of NGCF)."""
    max_epochs: PositiveInt = 1000
    """Upper bound on epochs (1000 in LightGCN)."""
    patience: PositiveInt = 50
    """Stop when the monitored metric has not risen for this many epochs; checked after each validation."""
    validate_every: PositiveInt = 5
    """Epochs between validations; the last epoch is always validated."""
    monitor: str = "ndcg@20"
    """The validation metric that picks the epoch; higher is better."""
    checkpoint_every: PositiveInt = 10
    """Epochs between checkpoints, from which a killed run resumes. After a minute of training there is one anyway."""
    max_grad_norm: PositiveFloat | None = None
    """Clip the gradient's norm to this; null for no clipping."""
    wide: WideSettings | None = None
    """Separate optimiser for the weights of values and crosses; null for Adam, as for all other parameters."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """Precision of matrix products in a step: tf32 lets a GPU round their arguments to 10 bits; bf16 is torch's
    autocast. Parameters, sparse products, sums and ranking stay in float32."""

    def entries(self) -> dict[str, Any]:
        """All settings but `wide` and `draw_by` at their defaults, which would change configurations' hashes."""
        young = {"wide": None, "draw_by": "interaction"}
        return {key: value for key, value in self.model_dump().items() if young.get(key, ...) != value}

    @model_validator(mode="after")
    def _epochs_are_in_order(self) -> TrainSettings:
        if self.patience < self.validate_every:
            raise ValueError(
                f"patience ({self.patience}) is below validate_every ({self.validate_every}): "
                "training would stop before it was ever validated"
            )
        if self.warmup >= self.max_epochs:
            raise ValueError(f"warmup ({self.warmup:g}) is not below max_epochs ({self.max_epochs})")
        return self
