"""The training loop: train, validate, stop early, resume."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from recgraph.errors import TrainingError
from recgraph.files import replacing
from recgraph.models.recommender import Recommender
from recgraph.objectives.base import Objectives
from recgraph.sampling.batches import Batches
from recgraph.training.optimization import Optimization, precision
from recgraph.training.settings import TrainSettings
from recgraph.training.trackers import Tracker

AT_RISK = 60.0  # seconds of training after which an epoch ends with a checkpoint in any case; our choice


@dataclass
class Progress:
    """The state of a run's training; all of it is in the checkpoint."""

    epoch: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_value: float = float("-inf")
    best_state: dict[str, Tensor] = field(default_factory=dict)
    parity_epoch: int = 0
    parity: dict[str, float] = field(default_factory=dict)
    stopped: Literal["", "patience", "max_epochs"] = ""


@dataclass(frozen=True)
class Trainer:
    """Trains a recommender until it stops improving on validation.

    Attributes:
        recommender: the model to train, on its device.
        objectives: what is minimised.
        batches: one epoch of batches per iteration.
        settings: the `train:` block.
        validate: returns the current validation metrics of the recommender; None for none, and to keep the last epoch.
        generators: all random generators by name; their states are part of a checkpoint.
        checkpoint: path of the checkpoint.
        parity: returns the same metrics on test, for papers that choose the epoch there. The best ones are reported
            beside the honest figures, and choose nothing.
        data: fingerprint of the training data; a checkpoint of other data is rejected.
        trackers: notified of every epoch.
        spent: seconds spent on preparing the recommender; they count as training.
        epochs: number of epochs to train; None for `settings.max_epochs`, where the learning-rate schedule ends anyway.
    """

    recommender: Recommender
    objectives: Objectives
    batches: Batches
    settings: TrainSettings
    validate: Callable[[], Mapping[str, float]] | None
    generators: Mapping[str, torch.Generator]
    checkpoint: Path
    parity: Callable[[], Mapping[str, float]] | None = None
    data: str = ""
    trackers: Sequence[Tracker] = ()
    spent: float = 0.0
    epochs: int | None = None

    def fit(self) -> Progress:
        """Train, or resume from the checkpoint, and leave the recommender in its best state, in evaluation mode.

        Raises:
            TrainingError: a loss or a parameter is not finite (the last good checkpoint is kept), or the checkpoint is
                damaged, or of other data or parameters.
        """
        settings = self.settings
        optimization = Optimization(self.recommender, self.objectives, settings, len(self.batches))
        progress = self._restore(optimization)
        saved = progress.seconds
        for tracker in self.trackers:
            tracker.start(progress.epoch, self.last_epoch, progress.best_value)
        try:
            while not progress.stopped:
                record = self._epoch(progress, optimization)
                with optimization.averaged():
                    may_end = self._record(progress, record)
                if may_end:
                    progress.stopped = self._ended(progress)
                due = progress.epoch % settings.checkpoint_every == 0 or progress.seconds - saved >= AT_RISK
                if progress.stopped or due:
                    self._save(progress, optimization)
                    saved = progress.seconds
        finally:
            for tracker in self.trackers:
                tracker.finish()
        self.recommender.load_state_dict(progress.best_state)
        self.recommender.eval()
        return progress

    @property
    def last_epoch(self) -> int:
        """The last epoch, unless training stops early."""
        return self.settings.max_epochs if self.epochs is None else self.epochs

    def _ended(self, progress: Progress) -> Literal["", "patience", "max_epochs"]:
        """Why training ends with an epoch at which it may; "" if it goes on."""
        if progress.epoch >= self.last_epoch:
            return "max_epochs"
        return "patience" if progress.epoch - progress.best_epoch >= self.settings.patience else ""

    def _epoch(self, progress: Progress, optimization: Optimization) -> dict[str, Any]:
        """Train for one epoch; returns its number, seconds and mean losses."""
        started = time.perf_counter()
        roles = list(self.objectives.terms)
        device = self.recommender.device
        # Both stay on the device: checking after each step whether a loss is finite would stall a GPU.
        sums = torch.zeros(len(roles), device=device)
        first_bad = torch.full((len(roles),), -1, device=device)
        self.recommender.train()
        self.objectives.train()
        self.objectives.begin_epoch(self.recommender, progress.epoch + 1, self.generators.get("views"))
        for step, batch in enumerate(self.batches, start=1):
            optimization.zero_grad()
            with precision(self.settings.precision, device):  # not longer: autocast keeps its copies of parameters
                parts = self.objectives.backward(self.recommender, batch)
            optimization.step()
            sums += parts
            first_bad = torch.where((first_bad < 0) & ~parts.isfinite(), step, first_bad)
            for tracker in self.trackers:
                tracker.step(step, len(self.batches))
        self._check_finite(progress.epoch + 1, dict(zip(roles, first_bad.tolist(), strict=True)))
        progress.epoch += 1
        losses = dict(zip(roles, (sums / len(self.batches)).tolist(), strict=True))
        seconds = time.perf_counter() - started
        progress.seconds += seconds
        times = {"seconds": round(seconds, 4), "elapsed": round(progress.seconds, 4)}
        factors = self.objectives.factors()
        return {"epoch": progress.epoch, **times, "losses": losses, **({"balance": factors} if factors else {})}

    def _record(self, progress: Progress, record: dict[str, Any]) -> bool:
        """Validate if due, keep the parameters if they are the best, and notify the trackers.

        Returns whether training may end here: after a validation, and with the last epoch.
        """
        last = progress.epoch == self.last_epoch
        if self.validate is None:
            if last:
                self._keep(progress)
        elif last or progress.epoch % self.settings.validate_every == 0:
            record["validation"] = self._validate(progress, self.validate)
        for tracker in self.trackers:
            tracker.epoch(record)
        return last or "validation" in record

    def _validate(self, progress: Progress, validate: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        self.recommender.eval()
        with torch.no_grad():
            metrics = dict(validate())
            parity = dict(self.parity()) if self.parity is not None else {}
        monitored = metrics[self.settings.monitor]
        if math.isnan(monitored):
            raise TrainingError(f"train.monitor: {self.settings.monitor} is not a number at epoch {progress.epoch}")
        if parity and parity[self.settings.monitor] > progress.parity.get(self.settings.monitor, float("-inf")):
            progress.parity, progress.parity_epoch = parity, progress.epoch
        if monitored > progress.best_value:
            progress.best_value = monitored
            self._keep(progress)
        return metrics

    def _keep(self, progress: Progress) -> None:
        progress.best_epoch = progress.epoch
        progress.best_state = {key: value.clone() for key, value in self.recommender.state_dict().items()}

    def _check_finite(self, epoch: int, first_bad: Mapping[str, int]) -> None:
        kept = f"The last good checkpoint is kept: {self.checkpoint}." if self.checkpoint.exists() else ""
        hint = f"A lower train.lr (now {self.settings.lr:g}) often helps. {kept}"
        bad = {role: step for role, step in first_bad.items() if step >= 0}
        if bad:
            role = min(bad, key=lambda role: bad[role])
            raise TrainingError(
                f"objectives.{role}: the loss is not finite at step {bad[role]} of epoch {epoch}. {hint}"
            )
        for name, parameter in [*self.recommender.named_parameters(), *self.objectives.named_parameters()]:
            if not parameter.isfinite().all():
                raise TrainingError(f"parameter {name} is not finite after epoch {epoch}. {hint}")

    def _save(self, progress: Progress, optimization: Optimization) -> None:
        device = self.recommender.device
        state = {
            "progress": vars(progress),
            "recommender": self.recommender.state_dict(),
            "objectives": self.objectives.state_dict(),
            "optimization": optimization.state_dict(),
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            "torch": torch.get_rng_state(),  # dropout draws from torch's global generator
            "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "data": self.data,
        }
        with replacing(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def _restore(self, optimization: Optimization) -> Progress:
        if not self.checkpoint.exists():
            return Progress(seconds=self.spent)
        device = self.recommender.device
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
            raise TrainingError(f"{self.checkpoint}: damaged; delete it to train from the start ({error})") from error
        if state["data"] != self.data:
            raise TrainingError(
                f"{self.checkpoint}: a run on other data was interrupted here (fingerprint {state['data'][:10]}, now "
                f"{self.data[:10]}); move its folder away to train on the new data"
            )
        for module, saved in ((self.recommender, state["recommender"]), (self.objectives, state["objectives"])):
            if list(saved) != list(module.state_dict()):  # the optimiser's state is by position
                raise TrainingError(
                    f"{self.checkpoint}: of other parameters, or of these in another order (as of heads or labels in "
                    "the file); move its folder away to train anew"
                )
            module.load_state_dict(saved)
        optimization.load_state_dict(state["optimization"])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        torch.set_rng_state(state["torch"])
        if device.type == "cuda" and state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], device)
        progress = Progress(**state["progress"])
        progress.best_state = {key: value.to(device) for key, value in progress.best_state.items()}
        if progress.stopped:  # a shorter run is taken over
            progress.stopped = self._ended(progress)
        return progress
