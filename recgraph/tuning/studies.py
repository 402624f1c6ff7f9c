"""Optuna studies shared between processes, and their results: the best settings, and the history as a tidy CSV.

Processes share a study through its database, and each asks for its own trials. A process holds the lock of its trial's
folder while it lives. A trial that is "running" in the database but whose lock is free was therefore killed: the next
process to look resumes it, with the same number and settings, from its last checkpoint. Optuna's heartbeat would find
such a trial only after a grace period, would mistake a suspended process for a dead one and run its trial twice, and
works only with `Study.optimize`. Locks do not reach other machines: see `Options.adopted`.
"""

from __future__ import annotations

import csv
import json
import platform
import shlex
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import optuna
import torch
import yaml
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from recgraph.errors import ConfigError, RecgraphError
from recgraph.experiments.task import Task
from recgraph.files import in_turn, locked, replacing, write_yaml
from recgraph.random import stream_seed
from recgraph.tuning.search import Search

LOCK_SECONDS = 60.0
"""How long to wait while another process writes to SQLite, which takes milliseconds; the default is 5 seconds."""


@dataclass(frozen=True)
class Options:
    """How searches are run.

    Attributes:
        root: folder of all runs.
        device: device of the models.
        trials: trials per study, over all processes and earlier calls; None for no limit.
        seconds: time per study, added up over its trials in all processes. When it is used up, no trial starts, and
            running ones are finished. None for no limit.
        prune: end a trial whose best value so far is below the median of the other trials at that epoch.
        storage: URL of a database shared between machines; "" for SQLite beside the trials' folders.
        adopted: places, as listed by `Summary.unfinished`, of machines that will not come back; their unfinished
            trials are resumed here. Set this on one machine only.
        track: mirror trials to Weights & Biases, each as its own run.
    """

    root: Path
    device: torch.device
    trials: int | None = None
    seconds: float | None = None
    prune: bool = True
    storage: str = ""
    adopted: tuple[str, ...] = ()
    track: Literal["none", "offline", "online"] = "none"


class Shared:
    """A study shared between processes.

    Args:
        search: what is tuned.
        options: how.
        task: the dataset and split, without the test part.

    Raises:
        ConfigError: the storage cannot be opened.
    """

    def __init__(self, search: Search, options: Options, task: Task) -> None:
        self.search, self.options, self.task = search, options, task
        self.name, self.folder = search.study(task.trained_on(search.run.config)), search.folder(options.root)
        # Every study numbers its trials from 0, so each has its own folder.
        self.trials = self.folder / "tuning" / self.name.rpartition("/")[2]
        self.trials.mkdir(parents=True, exist_ok=True)
        # Processes that share the SQLite file share its folder's locks. With another database, folders may differ.
        self.place = f"{platform.node()}:{self.trials.resolve()}" if options.storage else ""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        url = options.storage or str(URL.create("sqlite", database=str(self.folder.resolve() / "tuning.db")))
        arguments = {"connect_args": {"timeout": LOCK_SECONDS}} if url.startswith("sqlite") else {}
        with in_turn(self.folder):
            try:
                self.storage = optuna.storages.RDBStorage(url, engine_kwargs=arguments)
                optuna.create_study(
                    study_name=self.name, storage=self.storage, direction="maximize", load_if_exists=True
                )
            except (SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, ValueError) as error:
                raise ConfigError(f"--storage: cannot be opened: {str(error).splitlines()[0]}") from error

    def claim(self) -> tuple[optuna.Trial, ExitStack] | None:
        """The next trial with its lock: a killed one if there is any, else a new one; None if the budget is used up."""
        with in_turn(self.folder):
            study = self._study()
            for known in counted(study):
                if known.state == TrialState.RUNNING and self._is_here(known):
                    lock = self._lock(known.number)
                    if lock is None:
                        continue
                    # Check again under the lock: its last holder may have finished after the trials were listed.
                    if self.storage.get_trial(known._trial_id).state == TrialState.RUNNING:
                        return self._ready(study, optuna.Trial(study, known._trial_id), lock)
                    lock.close()
            if self._used_up(counted(study)):
                return None
            trial = study.ask()
            lock = self._lock(trial.number)
            if lock is None:
                raise RecgraphError(f"{self.trial_folder(trial.number)}: another process is at work here")
            if self._used_up([one for one in counted(study) if one.number < trial.number]):
                trial.set_user_attr("surplus", True)  # another machine used up the budget with lower-numbered trials
                study.tell(trial, state=TrialState.FAIL)
                lock.close()
                return None
            return self._ready(study, trial, lock)

    def known(self, trial: optuna.Trial) -> FrozenTrial:
        """The trial's state in the database."""
        return self.storage.get_trial(trial._trial_id)

    def summarise(self) -> Summary:
        """Write the results so far, and return them."""
        with in_turn(self.folder):  # of two processes that finish, the later one sees all trials and writes last
            summary = Summary(self.search, self.name, self.task.fingerprint, counted(self._study()))
            summary.write(self.folder)
        return summary

    def _study(self) -> optuna.Study:
        """The study, loaded anew so that no cached state is used."""
        patience = self.search.run.config.get("train", {}).get("patience", 0)
        median = optuna.pruners.MedianPruner(n_warmup_steps=patience)  # pruned no earlier than patience could stop it
        pruner = median if self.options.prune else optuna.pruners.NopPruner()
        return optuna.load_study(study_name=self.name, storage=self.storage, pruner=pruner)

    def _ready(self, study: optuna.Study, trial: optuna.Trial, lock: ExitStack) -> tuple[optuna.Trial, ExitStack]:
        if trial.user_attrs.get("place") != self.place:  # new, or adopted
            for left in self.trial_folder(trial.number).iterdir():  # left by a study whose database is gone
                if left.name != ".lock":
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            trial.set_user_attr("place", self.place)
        # A random stream per trial: with a common one, every process and every call would start with the same trials.
        seed = stream_seed(self.search.run.seed, f"trial {trial.number}") % 2**32
        study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        known = self.known(trial)
        if len(known.distributions) < len(self.search.space):
            # The trial was killed while sampling. Repeat its draws, so that the rest comes from the same random stream.
            for address in self.search.space:
                distribution = known.distributions.get(address)
                if distribution is not None and not distribution.single():
                    study.sampler.sample_independent(study, known, address, distribution)
        self.search.draw(trial)
        return trial, lock

    def _is_here(self, known: FrozenTrial) -> bool:
        return not self.place or known.user_attrs.get("place", "?") in (self.place, *self.options.adopted)

    def _used_up(self, trials: Sequence[FrozenTrial]) -> bool:
        seconds = sum(one.user_attrs.get("seconds", 0.0) for one in trials)
        few = self.options.trials is None or len(trials) < self.options.trials
        return not few or (self.options.seconds is not None and seconds >= self.options.seconds)

    def trial_folder(self, number: int) -> Path:
        """The folder of a trial."""
        return self.trials / f"trial-{number}"

    def _lock(self, number: int) -> ExitStack | None:
        """The lock of a trial; None if another process holds it."""
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.trial_folder(number)))
            except RecgraphError:
                return None
            return stack.pop_all()


@dataclass(frozen=True)
class Summary:
    """The state of a study.

    Attributes:
        search: what is tuned.
        study: name of the study.
        fingerprint: fingerprint of the data.
        trials: all trials that count towards the budget, by number.
    """

    search: Search
    study: str
    fingerprint: str
    trials: Sequence[FrozenTrial]

    @cached_property
    def best(self) -> FrozenTrial | None:
        """The complete trial with the highest value; the first one in a tie."""
        complete = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        return max(complete, key=lambda trial: trial.value or 0.0, default=None)

    @cached_property
    def states(self) -> dict[str, int]:
        """Number of trials by state: complete, pruned, fail, running."""
        return dict(sorted(Counter(trial.state.name.lower() for trial in self.trials).items()))

    @cached_property
    def seconds(self) -> float:
        """Total seconds of all trials."""
        return float(sum(trial.user_attrs.get("seconds", 0.0) for trial in self.trials))

    @cached_property
    def unfinished(self) -> dict[int, str]:
        """Number -> place of trials that are running or were killed; "" with SQLite, "?" if not yet recorded."""
        running = [trial for trial in self.trials if trial.state == TrialState.RUNNING]
        return {trial.number: trial.user_attrs.get("place", "?") for trial in running}

    def command(self, root: Path) -> list[str]:
        """The command that trains the row with the best settings, bit-identically on the same machine.

        It sets the number of threads, since sums of floats depend on it. Empty if no trial is complete.
        """
        if self.best is None:
            return []
        run = self.search.run
        changes = [f"{path}={flow(value)}" for path, value in self.search.overrides(self.best.params).items()]
        where = ["--rows", run.row, "--datasets", run.dataset, "--seeds", str(run.seed), "--runs", str(root)]
        device = self.best.user_attrs.get("device", "cpu")  # not on record in older studies
        where += ["--device", device] if device != "cpu" else []
        threads = f"OMP_NUM_THREADS={self.best.user_attrs['threads']}"
        return [threads, "recgraph", "train", str(self.search.path), *changes, *where]

    def write(self, folder: Path) -> None:
        """Write `tuning.csv` and, once a trial is complete, `best.yaml`; one of another study is removed."""
        paths = list(self.search.space)
        with replacing(folder / "tuning.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["trial", "state", "value", "seconds", *paths])
            for trial in self.trials:
                chosen = self.search.overrides(trial.params)
                value = "" if trial.value is None else repr(trial.value)
                row = [trial.number, trial.state.name.lower(), value, trial.user_attrs.get("seconds", "")]
                writer.writerow([*row, *(flow(chosen[path]) if path in chosen else "" for path in paths)])
        if self.best is None:
            (folder / "best.yaml").unlink(missing_ok=True)
            return
        run, best = self.search.run, self.best
        content = {
            "table": run.table,
            "row": run.row,
            "dataset": run.dataset,
            "seed": run.seed,
            "monitor": self.search.monitor,
            "score": best.value,
            "overrides": self.search.overrides(best.params),
            "validation": best.user_attrs["metrics"],
            "trial": best.number,
            "trials": self.states,
            "seconds": round(self.seconds, 2),
            "study": self.study,
            "data_fingerprint": self.fingerprint,
            "code": best.user_attrs["code"],
            "threads": best.user_attrs["threads"],
            "command": shlex.join(self.command(folder.parents[2])),
        }
        write_yaml(folder / "best.yaml", content)


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count towards the budget."""
    return [trial for trial in study.get_trials(deepcopy=False) if not trial.user_attrs.get("surplus")]


def flow(value: Any) -> str:
    """A value as one line of YAML, in the form that the command line reads."""
    text = yaml.safe_dump(json.loads(json.dumps(value)), default_flow_style=True, sort_keys=False, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")
