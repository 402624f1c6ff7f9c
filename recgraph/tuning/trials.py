"""Tuning: for each row of a file's `search:` block and each dataset, trials that are judged on validation alone."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from recgraph.environment import code_digest
from recgraph.errors import ConfigError, RecgraphError
from recgraph.experiments.fitting import fit
from recgraph.experiments.scheduling import Tasks, killed_by, start
from recgraph.files import write_json, write_text
from recgraph.training.trackers import JsonLines, ProgressBar, Record, Tracker
from recgraph.training.weights_biases import WeightsAndBiases
from recgraph.tuning.search import Search
from recgraph.tuning.studies import Options, Shared, Summary, plain

Report = Callable[[Search, FrozenTrial], None]
"""A function of a module, called with each trial that is over, in the process that did it."""


def tune(
    found: Sequence[Search],
    options: Options,
    *,
    workers: int = 1,
    console: Console | None = None,
    report: Report = lambda *_: None,
) -> tuple[list[Summary], list[str]]:
    """Do what is left of some searches, one after the other.

    Args:
        found: the searches.
        options: how.
        workers: processes at once, which share the machine's cores and each study.
        console: where progress is drawn, if there is one worker.
        report: see `Report`.

    Returns:
        A summary of each search, and why worker processes ended before their time.

    Raises:
        ConfigError: there is no budget, or the storage cannot be opened.
    """
    if options.trials is None and options.seconds is None:
        raise ConfigError("a search needs a number of trials, a number of seconds, or both")
    if workers == 1:
        return work(found, options, report, console), []
    ended = []
    processes = [start(_quietly, found, options, report, workers=workers) for _ in range(workers)]
    try:
        waiting = {process.sentinel: process for process in processes}
        while waiting:
            for sentinel in wait(list(waiting)):
                process = waiting.pop(sentinel)  # type: ignore[arg-type]
                process.join()
                if process.exitcode:
                    ended.append(killed_by(process.exitcode) if process.exitcode < 0 else "a process failed, see above")
    finally:
        for process in processes:
            process.terminate()
    tasks = Tasks(options.device, sealed=True)
    return [Shared(search, options, tasks(search.run)).summarise() for search in found], ended


def work(found: Sequence[Search], options: Options, report: Report, console: Console | None = None) -> list[Summary]:
    """Do trials of each search until its budget is used up; other processes may be doing the same."""
    summaries, tasks = [], Tasks(options.device, sealed=True)
    for search in found:
        shared = Shared(search, options, tasks(search.run))
        while (claimed := shared.claim()) is not None:
            trial, lock = claimed
            with lock:
                attempt(shared, trial, console)
            report(search, shared.known(trial))
        summaries.append(shared.summarise())
    return summaries


def _quietly(found: Sequence[Search], options: Options, report: Report) -> None:
    try:
        work(found, options, report)
    except RecgraphError as error:
        raise SystemExit(f"error: {error}") from None  # a line, no traceback


def attempt(shared: Shared, trial: optuna.Trial, console: Console | None = None) -> None:
    """Do a trial that was claimed, or what is left of it, and tell the study what came out.

    A trial that cannot be done, for example because its loss is no longer finite, has failed. A full disk, a lack
    of memory or an interrupt ends the process, and leaves the trial to be gone on with.
    """
    known, folder = shared.known(trial), shared.trial_folder(trial.number)
    curve = Curve(trial, known, shared.search.monitor, prune=shared.options.prune)
    state, value = TrialState.COMPLETE, None
    try:
        record = _fit(shared, trial, curve, shared.search.overrides(known.params), folder, console)
        write_json(folder / "validation.json", record)
        trial.set_user_attr("metrics", record["metrics"])
        value = record["metrics"][shared.search.monitor]
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a bug with one setting must not take the night's other trials with it
        state = TrialState.FAIL
        write_text(folder / "error.txt", traceback.format_exc())
        kind = "" if isinstance(error, RecgraphError) else f"{type(error).__name__}: "
        trial.set_user_attr("error", f"{kind}{error}"[:2000])  # a column of some databases holds 2048
    trial.set_user_attr("seconds", round(curve.seconds(), 2))
    trial.study.tell(trial, value, state=state)
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)


def _fit(
    shared: Shared, trial: optuna.Trial, curve: Curve, overrides: dict[str, Any], folder: Path, console: Console | None
) -> dict[str, Any]:
    run = shared.search.at(overrides)
    write_text(folder / "config.yaml", plain(run.config))
    code = trial.user_attrs.get("code", code_digest())
    trial.set_user_attr("code", code if code == code_digest() else "mixed")
    trial.set_user_attr("threads", torch.get_num_threads())
    trackers: list[Tracker] = [JsonLines(folder / "metrics.jsonl")]
    if console is not None and "baseline" not in run.config:
        title = f"{run.row} · {run.dataset} · trial {trial.number}"
        trackers.append(ProgressBar(title, shared.search.monitor, console))
    if shared.options.track != "none":
        named = replace(run, row=f"{run.row} trial {trial.number}")
        trackers.append(WeightsAndBiases(named, folder, mode=shared.options.track))
    trackers.append(curve)  # last, for it may end the trial
    try:
        model, progress = fit(run, shared.task, folder, trackers)
        names = dict.fromkeys([*run.config["evaluate"]["metrics"], shared.search.monitor])
        record = {
            "trial": trial.number,
            "config_hash": run.config_hash,
            "overrides": overrides,
            "epochs": progress.epoch,
            "best_epoch": progress.best_epoch,
            "metrics": shared.task.validate(model, list(names)).summary,
            "seconds": round(curve.seconds(), 2),
        }
        for tracker in trackers:
            tracker.result(record)
        return record
    finally:
        for tracker in trackers:
            tracker.close()


class Curve(Tracker):
    """Tells a study about a trial's validation curve, and ends the trial if the study would.

    Args:
        trial: the trial.
        known: what the database knew of it when it was taken up.
        monitor: the metric to tell.
        prune: whether to end it.
    """

    def __init__(self, trial: optuna.Trial, known: FrozenTrial, monitor: str, *, prune: bool) -> None:
        self.trial, self.monitor, self.prune = trial, monitor, prune
        self.told = set(known.intermediate_values)
        self.before, self.started = known.user_attrs.get("seconds", 0.0), time.perf_counter()

    def seconds(self) -> float:
        """What the trial took so far, processes that were killed included up to their last validation."""
        return float(self.before + time.perf_counter() - self.started)

    def epoch(self, record: Record) -> None:
        """Report a validation.

        Raises:
            TrialPruned: the trial is not worth going on with.
        """
        if "validation" not in record:
            return
        if record["epoch"] not in self.told:  # of a resumed trial, epochs after its checkpoint come again
            self.trial.report(record["validation"][self.monitor], record["epoch"])
        self.trial.set_user_attr("seconds", round(self.seconds(), 2))
        if self.prune and self.trial.should_prune():
            raise optuna.TrialPruned
