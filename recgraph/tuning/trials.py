"""Running trials for each row of a file's `search:` block and each dataset, judged on validation alone."""

from __future__ import annotations

import logging
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
from recgraph.errors import ConfigError, RecgraphError, suggest
from recgraph.experiments.fitting import fit
from recgraph.experiments.scheduling import Tasks, killed_by, start
from recgraph.files import write_json, write_text, write_yaml
from recgraph.registry import packages
from recgraph.training.trackers import JsonLines, ProgressBar, Record, Tracker
from recgraph.training.weights_biases import WeightsAndBiases
from recgraph.tuning.search import Search
from recgraph.tuning.studies import Options, Shared, Summary

logger = logging.getLogger(__name__)

FAILURES = 100
"""Trials that may fail in a row in one process. Where a twentieth of the space works, so many random draws all fail in
one of 170 cases (.95^100). If they fail at once, it takes seconds, and a budget of seconds alone would allow many more.
"""

Report = Callable[[Search, FrozenTrial], None]
"""Called with each finished trial, in the process that ran it; a module-level function, since it is pickled."""


def tune(
    found: Sequence[Search],
    options: Options,
    *,
    workers: int = 1,
    console: Console | None = None,
    report: Report | None = None,
) -> tuple[list[Summary], list[str]]:
    """Complete searches, one after the other, continuing from existing trials.

    Args:
        found: the searches.
        options: how.
        workers: number of parallel processes, which share the machine's cores and each study.
        console: where progress is shown, if there is one worker.
        report: see `Report`.

    Returns:
        A summary of each search, and the reasons why worker processes ended early.

    Raises:
        ConfigError: there is no budget, no trial is left at a place to adopt, or the storage cannot be opened.
    """
    if options.trials is None and options.seconds is None:
        raise ConfigError("a search needs a number of trials, a number of seconds, or both")
    if options.adopted:
        tasks = Tasks(options.device, sealed=True)
        left = [Shared(search, options, tasks(search.run)).summarise().unfinished.values() for search in found]
        places = sorted({place for some in left for place in some if place})
        for one in options.adopted:
            if one not in places:
                raise ConfigError(f"--adopt: no unfinished trial is at {one!r}. {suggest(one, places)}")
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


def work(found: Sequence[Search], options: Options, report: Report | None, console: Console | None) -> list[Summary]:
    """Run trials of each search until its budget is used up or `FAILURES` failed, possibly beside other processes."""
    summaries, tasks = [], Tasks(options.device, sealed=True)
    for search in found:
        shared, failed = Shared(search, options, tasks(search.run)), 0
        while failed < FAILURES and (claimed := shared.claim()) is not None:
            trial, lock = claimed
            with lock:
                attempt(shared, trial, console)
            known = shared.known(trial)
            failed = failed + 1 if known.state == TrialState.FAIL else 0
            if report is not None:
                report(search, known)
        if failed == FAILURES:
            why = known.user_attrs["error"]
            logger.warning("%s: ended, for %d trials in a row failed, the last with: %s", shared.name, failed, why)
        summaries.append(shared.summarise())
    return summaries


def _quietly(found: Sequence[Search], options: Options, report: Report | None) -> None:
    try:
        work(found, options, report, None)
    except RecgraphError as error:
        raise SystemExit(f"error: {error}") from None  # one line without a traceback


def attempt(shared: Shared, trial: optuna.Trial, console: Console | None = None) -> None:
    """Run or resume a claimed trial, and report its outcome to the study.

    A trial that raises an error, for example because its loss is not finite, counts as failed. A full disk, a lack of
    memory or an interrupt ends the process instead, and the trial can be resumed.
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
    except (OSError, MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # a bug with one setting must not stop the other trials
        if "can't allocate memory" in str(error):  # torch's RuntimeError on a CPU
            raise
        state = TrialState.FAIL
        write_text(folder / "error.txt", traceback.format_exc())
        kind = "" if isinstance(error, RecgraphError) else f"{type(error).__name__}: "
        trial.set_user_attr("error", f"{kind}{error}"[:2000])  # some databases limit the column to 2048 characters
    trial.set_user_attr("seconds", round(curve.seconds(), 2))
    trial.study.tell(trial, value, state=state)
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)


def _fit(
    shared: Shared, trial: optuna.Trial, curve: Curve, overrides: dict[str, Any], folder: Path, console: Console | None
) -> dict[str, Any]:
    run = shared.search.at(overrides)
    write_yaml(folder / "config.yaml", run.config)
    trial.set_user_attr("code", code_digest(packages(run.config)))
    trial.set_user_attr("threads", torch.get_num_threads())
    trial.set_user_attr("device", str(shared.options.device))
    trackers: list[Tracker] = [JsonLines(folder / "metrics.jsonl")]
    if console is not None and "baseline" not in run.config:
        title = f"{run.row} · {run.dataset} · trial {trial.number}"
        trackers.append(ProgressBar(title, shared.search.monitor, console))
    if shared.options.track != "none":
        named = replace(run, row=f"{run.row} trial {trial.number}")
        trackers.append(WeightsAndBiases(named, folder, mode=shared.options.track))
    trackers.append(curve)  # last, since it may end the trial
    try:
        model, progress = fit(run, shared.task, folder, trackers)
        record = {
            "trial": trial.number,
            "config_hash": run.config_hash,
            "overrides": overrides,
            "epochs": progress.epoch,
            "best_epoch": progress.best_epoch,
            "metrics": shared.task.validate(model, run.config["evaluate"]["metrics"]).summary,
            "seconds": round(curve.seconds(), 2),
        }
        for tracker in trackers:
            tracker.result(record)
        return record
    except optuna.TrialPruned:
        for tracker in trackers:
            tracker.result({"state": "pruned"})  # else it would end as failed
        raise
    finally:
        for tracker in trackers:
            tracker.close()


class Curve(Tracker):
    """Reports a trial's validation curve to its study, and ends the trial if the study prunes it.

    Args:
        trial: the trial.
        known: the trial's state in the database when it was claimed.
        monitor: the metric to report.
        prune: whether the trial may be pruned.
    """

    def __init__(self, trial: optuna.Trial, known: FrozenTrial, monitor: str, *, prune: bool) -> None:
        self.trial, self.monitor, self.prune = trial, monitor, prune
        self.told = set(known.intermediate_values)
        self.before, self.started = known.user_attrs.get("seconds", 0.0), time.perf_counter()

    def seconds(self) -> float:
        """Seconds of the trial so far, including those of killed processes up to their last validation."""
        return float(self.before + time.perf_counter() - self.started)

    def epoch(self, record: Record) -> None:
        """Report a validation.

        Raises:
            TrialPruned: the study prunes the trial.
        """
        if "validation" not in record:
            return
        if record["epoch"] not in self.told:  # a resumed trial repeats the epochs after its checkpoint
            self.trial.report(record["validation"][self.monitor], record["epoch"])
        self.trial.set_user_attr("seconds", round(self.seconds(), 2))
        if self.prune and self.trial.should_prune():
            raise optuna.TrialPruned
