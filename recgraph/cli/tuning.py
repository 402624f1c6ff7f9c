"""The command for hyper-parameter search: tune."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from tabulate import tabulate

from recgraph.cli.common import app, check_positive, console, find_device, listed, say, to_write_to
from recgraph.errors import ConfigError, RecgraphError
from recgraph.tuning.search import Search, searches

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from recgraph.tuning.studies import Summary

logger = logging.getLogger(__name__)


@app.command
def tune(
    file: Path,
    *,
    trials: int | None = None,
    budget_seconds: float | None = None,
    rows: str = "",
    on: Annotated[str, Parameter(name="--datasets")] = "",
    seed: int = 0,
    workers: int = 1,
    storage: str = "",
    adopt: str = "",
    prune: bool = True,
    track: Literal["none", "offline", "online"] = "none",
    device: str = "cpu",
    runs: Path = Path("runs"),
) -> None:
    """Find the settings of rows that are best on validation, in the spaces of the file's `search:` block.

    The test set is never used. Repeating the command resumes killed trials. The same command in several terminals
    shares the work, with `--trials` trials in total. An existing study of the same space, settings, data and code
    is continued, and extended if more trials are asked for.

    Args:
        file: experiment file, such as experiments/ml100k.yaml.
        trials: number of trials for each row and dataset, the same for models and for baselines.
        budget_seconds: time for each row and dataset, added up over the trials of all processes; with or instead of
            `--trials`. A trial that is running when the time is used up is finished. However much is left, a process
            stops after 100 failed trials in a row.
        rows: rows to tune, separated by commas; all of the `search:` block by default.
        on: datasets, separated by commas; those of the file by default.
        seed: seed of the runs and of the sampler.
        workers: number of parallel processes, which share the cores.
        storage: URL of a database shared by several machines, such as postgresql://...; by default SQLite in the
            folder of runs.
        adopt: places, separated by commas, of machines that will not come back; their unfinished trials are resumed
            here.
        prune: end a trial early if its validation curve stays below the median of the others.
        track: mirror each trial to Weights & Biases as its own run, into its folder (offline) or to the server.
        device: cpu, cuda, cuda:1 ...
        runs: folder of all runs.
    """
    check_positive({"--trials": trials, "--budget-seconds": budget_seconds, "--workers": workers})
    if trials is None and budget_seconds is None:
        raise ConfigError("set a budget: --trials, --budget-seconds, or both")
    try:
        from recgraph.tuning import trials as tuning  # Optuna, which only this command needs
    except ModuleNotFoundError as error:
        raise ConfigError(f"recgraph tune needs Optuna: pip install optuna ({error})") from None
    found = searches(file, rows=listed(rows), datasets=listed(on), seed=seed)
    to_write_to(runs, "--runs")
    options = tuning.Options(
        runs, find_device(device), trials, budget_seconds, prune, storage, adopted=tuple(listed(adopt)), track=track
    )
    summaries, ended = tuning.tune(found, options, workers=workers, console=console, report=_line)
    _show(summaries, runs)
    for why in ended:
        logger.warning("one of %d workers did not come to its end: %s", workers, why)
    _fail_if_unfinished(summaries, ended, trials)


def _line(search: Search, trial: FrozenTrial) -> None:
    """Print a line about a finished trial."""
    value = f"{search.monitor} {trial.value:.4f}" if trial.value is not None else trial.user_attrs.get("error", "")
    name = f"{search.run.row} · {search.run.dataset} · trial {trial.number}"
    say(f"{name}: {trial.state.name.lower()} {value} ({trial.user_attrs.get('seconds', 0.0):.1f} s)")


def _show(summaries: Sequence[Summary], runs: Path) -> None:
    """Print a summary table, and the commands that train with the best settings."""
    lines, commands = [], []
    for one in summaries:
        search, best = one.search, one.best
        states = ", ".join(f"{count} {state}" for state, count in one.states.items())
        figure = [search.monitor, "–", "–"] if best is None else [search.monitor, f"{best.value:.4f}", best.number]
        lines.append([search.run.row, search.run.dataset, *figure, states, f"{one.seconds:.0f}"])
        if best is not None:
            threads, *command = one.command(runs)
            commands.append(f"{threads} {shlex.join(command)}")
    folders = [one.search.folder(runs) for one in summaries]
    head = ["row", "dataset", "validation", "best", "trial", "trials", "seconds"]
    say("\n" + tabulate(lines, head, tablefmt="github", disable_numparse=True))
    say(
        "\nTo train and test with the best settings:\n" + "\n".join(commands) if commands else "\nNo trial is complete."
    )
    say(f"\nTrials, and the best settings where there are any, are in {', '.join(map(str, folders))}.")


def _fail_if_unfinished(summaries: Sequence[Summary], ended: Sequence[str], trials: int | None) -> None:
    """Print unfinished trials, and raise an error if a search failed.

    Trials that other processes may be running are no error. A search failed if no trial began, if all trials failed, or
    if a worker ended early and left work.
    """
    for one in summaries:
        for number, place in one.unfinished.items():
            where = f" at {place} (--adopt does it here)" if place else ""
            say(f"{one.study}: trial {number} is not over{where}: a process is at it, or was killed; run again to see")
        if not one.trials or one.states.get("fail") == len(one.trials):
            errors = {trial.user_attrs.get("error", "") for trial in one.trials}
            raise RecgraphError(f"{one.study}: no trial could be done: {'; '.join(sorted(errors)) or 'none began'}")
        if ended and (one.unfinished or (trials is not None and len(one.trials) < trials)):
            raise RecgraphError(
                f"{one.study}: not finished, for a worker ended early; the same command goes on with it"
            )
