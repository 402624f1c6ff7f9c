"""Optuna studies that processes share, and what came out of them: the best settings, and the history as a tidy CSV.

Processes share a study through its database, and each asks for trials of its own. A process holds the lock of its
trial's folder for as long as it lives, so a trial that is running in the database while nobody holds its lock was
killed: whoever looks next goes on with it, under its number, with its settings, from its last checkpoint. Optuna's
heartbeat would find it only after a grace period, would take a suspended process for a dead one and run its trial
twice, and works with `Study.optimize` alone. Locks do not reach other machines: see `Options.adopted`.
"""

from __future__ import annotations

import csv
import fcntl
import json
import platform
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import optuna
import torch
import yaml
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from recgraph.errors import ConfigError, RecgraphError
from recgraph.experiments.task import Task
from recgraph.files import locked, replacing, write_text
from recgraph.random import stream_seed
from recgraph.tuning.search import Search

LOCK_SECONDS = 60.0
"""How long to wait while another process writes to SQLite, which takes milliseconds; its own default is 5."""


@dataclass(frozen=True)
class Options:
    """How searches are done.

    Attributes:
        root: folder of all runs.
        device: where tensors live.
        trials: of a study, those of all processes and of earlier calls together; None for no limit.
        seconds: no trial begins once the study's trials took so long, those of all processes added up; what has begun
            is finished. None for no limit.
        prune: end a trial whose best value so far is below the median of the others' at that epoch.
        storage: URL of a database that machines share; "" for SQLite beside the trials' folders.
        adopted: places (`Summary.unfinished` names them) of machines that will not come back, whose unfinished trials
            are done here. To be said on one machine only.
        track: mirror trials to Weights & Biases, each as a run of its own.
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
    """A study that processes share.

    Args:
        search: what is tuned.
        options: how.
        task: the dataset and split, sealed.

    Raises:
        ConfigError: the storage cannot be opened.
    """

    def __init__(self, search: Search, options: Options, task: Task) -> None:
        self.search, self.options, self.task = search, options, task
        self.name, self.folder = search.study(task.fingerprint), search.folder(options.root)
        # Another study counts its trials from 0 as well, so its folders are elsewhere.
        self.trials = self.folder / "tuning" / self.name.rpartition("/")[2]
        self.trials.mkdir(parents=True, exist_ok=True)
        # Whoever opens SQLite here sees the locks here; of a shared database, only who works in the same folder.
        self.place = f"{platform.node()}:{self.trials.resolve()}" if options.storage else ""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        url = options.storage or f"sqlite:///{self.folder.resolve() / 'tuning.db'}"
        arguments = {"connect_args": {"timeout": LOCK_SECONDS}} if url.startswith("sqlite") else {}
        with self._alone():
            try:
                self.storage = optuna.storages.RDBStorage(url, engine_kwargs=arguments)
                optuna.create_study(
                    study_name=self.name, storage=self.storage, direction="maximize", load_if_exists=True
                )
            except (SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, ValueError) as error:
                raise ConfigError(f"--storage: cannot be opened: {str(error).splitlines()[0]}") from error

    def claim(self) -> tuple[optuna.Trial, ExitStack] | None:
        """A trial to do, with its lock: one that was killed, else a new one; None if the budget is used up."""
        with self._alone():
            study = self._study()
            for known in counted(study):
                if known.state == TrialState.RUNNING and self._is_here(known):
                    lock = self._lock(known.number)
                    if lock is None:
                        continue
                    # Only now is it certain: whoever had the lock may have finished since the trials were listed.
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
                trial.set_user_attr("surplus", True)  # another machine was faster; the database numbers them in order
                study.tell(trial, state=TrialState.FAIL)
                lock.close()
                return None
            return self._ready(study, trial, lock)

    def known(self, trial: optuna.Trial) -> FrozenTrial:
        """A trial as the database has it."""
        return self.storage.get_trial(trial._trial_id)

    def summarise(self) -> Summary:
        """Write what has come out so far, and return it."""
        with self._alone():  # of two processes that end, the later has all trials and writes last
            summary = Summary(self.search, self.name, self.task.fingerprint, counted(self._study()))
            summary.write(self.folder)
        return summary

    def _study(self) -> optuna.Study:
        """The study, with nothing remembered from before."""
        patience = self.search.run.config.get("train", {}).get("patience", 0)
        median = optuna.pruners.MedianPruner(n_warmup_steps=patience)  # no trial gets less time than patience gives it
        pruner = median if self.options.prune else optuna.pruners.NopPruner()
        return optuna.load_study(study_name=self.name, storage=self.storage, pruner=pruner)

    def _ready(self, study: optuna.Study, trial: optuna.Trial, lock: ExitStack) -> tuple[optuna.Trial, ExitStack]:
        if trial.user_attrs.get("place") != self.place:  # new, or adopted
            for left in self.trial_folder(trial.number).iterdir():  # by a study whose database is gone
                if left.name != ".lock":
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            trial.set_user_attr("place", self.place)
        # A stream for each trial: processes with one would all begin with the same trials, as would a second call.
        seed = stream_seed(self.search.run.seed, f"trial {trial.number}") % 2**32
        study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        known = self.known(trial)
        if len(known.distributions) < len(self.search.space):
            # Of a trial that was killed while it chose, what is left is drawn from where its stream stood.
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
        """Where a trial lives."""
        return self.trials / f"trial-{number}"

    def _lock(self, number: int) -> ExitStack | None:
        """The lock of a trial; None if a process has it."""
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.trial_folder(number)))
            except RecgraphError:
                return None
            return stack.pop_all()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other process here is in this block."""
        with (self.folder / ".tuning.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@dataclass(frozen=True)
class Summary:
    """Where a study stands.

    Attributes:
        search: what is tuned.
        study: name of the study.
        fingerprint: of the data.
        trials: all that the budget was spent on, by number.
    """

    search: Search
    study: str
    fingerprint: str
    trials: Sequence[FrozenTrial]

    @cached_property
    def best(self) -> FrozenTrial | None:
        """The complete trial with the highest value, of equals the first."""
        complete = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        return max(complete, key=lambda trial: trial.value or 0.0, default=None)

    @cached_property
    def states(self) -> dict[str, int]:
        """Trials by state: complete, pruned, fail, running."""
        return dict(sorted(Counter(trial.state.name.lower() for trial in self.trials).items()))

    @cached_property
    def seconds(self) -> float:
        """What all trials took."""
        return float(sum(trial.user_attrs.get("seconds", 0.0) for trial in self.trials))

    @cached_property
    def unfinished(self) -> dict[int, str]:
        """Trials that processes are at, or were when they were killed -> their place, "" if it is here."""
        running = [trial for trial in self.trials if trial.state == TrialState.RUNNING]
        return {trial.number: trial.user_attrs.get("place", "?") for trial in running}

    @cached_property
    def codes(self) -> set[str]:
        """The code that trials were done by; several, if it changed on the way."""
        return {trial.user_attrs["code"] for trial in self.trials if "code" in trial.user_attrs}

    def command(self, root: Path) -> list[str]:
        """The command that trains the row with the best settings, to the bit on the same machine.

        Threads are part of it, for sums of floats depend on their number.
        """
        if self.best is None:
            return []
        run = self.search.run
        changes = [f"{path}={flow(value)}" for path, value in self.search.overrides(self.best.params).items()]
        where = ["--rows", run.row, "--datasets", run.dataset, "--seeds", str(run.seed), "--runs", str(root)]
        threads = f"OMP_NUM_THREADS={self.best.user_attrs['threads']}"
        return [threads, "recgraph", "train", str(self.search.path), *changes, *where]

    def write(self, folder: Path) -> None:
        """Write `tuning.csv` and, once a trial is complete, `best.yaml`."""
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
        write_text(folder / "best.yaml", plain(content))


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that the budget is spent on."""
    return [trial for trial in study.get_trials(deepcopy=False) if not trial.user_attrs.get("surplus")]


def plain(value: Any) -> str:
    """A tree as YAML, tuples as lists; floats are written so that reading them gives the same bits."""
    return yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False, allow_unicode=True, width=float("inf"))


def flow(value: Any) -> str:
    """A value as YAML in one line, as the command line reads it."""
    text = yaml.safe_dump(json.loads(json.dumps(value)), default_flow_style=True, sort_keys=False, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")
