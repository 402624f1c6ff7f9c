"""Many runs: executes them in one or several processes, and previews what is left to do and how long it will take."""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from recgraph.data.clicks import clicks_of
from recgraph.errors import LockedError, RecgraphError
from recgraph.experiments.experiment import Run
from recgraph.experiments.finished import Result, config_of, is_current, read_result, trained, will_spare
from recgraph.experiments.fitting import LAST, REFIT, sources_of
from recgraph.experiments.running import Settings, execute
from recgraph.experiments.task import Task
from recgraph.files import digest, write_text

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")

LOCKED = "another process is at work here"
"""The error of a run that another process executes; a process that finds it so ends with `os.EX_TEMPFAIL`."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        run: the run.
        folder: its folder.
        result: its result; None if it failed.
        error: why it failed; the traceback is in the folder's error.txt, unless the run was `LOCKED` or its process was
            killed.
    """

    run: Run
    folder: Path
    result: Result | None
    error: str = ""


Report = Callable[[Outcome], None]


def do(
    runs: Sequence[Run],
    root: Path,
    *,
    settings: Settings,
    console: Console,
    workers: int = 1,
    report: Report = lambda _: None,
) -> list[Outcome]:
    """Execute runs independently: one that fails does not stop the others.

    Args:
        runs: the runs to execute.
        root: folder of all runs.
        settings: how to execute them.
        console: where progress is drawn, if there is one worker.
        workers: number of concurrent processes, which share the machine's cores. Above 1, each run has its own process,
            so that killing one does not affect the others.
        report: called with each outcome as it comes.

    Returns:
        An outcome for each run, in order.
    """
    if workers > 1:
        return _in_processes(runs, root, settings, workers, report)
    outcomes, tasks = [], Tasks(settings.device)
    for run in runs:
        outcomes.append(_attempt(run, root, settings, console, tasks))
        report(outcomes[-1])
    return outcomes


class Tasks:
    """Loads tasks and keeps the last one, as consecutive runs share their data; `device` and `sealed` as in `Task`."""

    def __init__(self, device: torch.device, *, sealed: bool = False) -> None:
        self.device, self.sealed, self.key = device, sealed, ""
        self.task: Task | None = None

    def __call__(self, run: Run) -> Task:
        key = digest([run.dataset, run.config["split"], run.config.get("clicks")])
        if self.task is None or key != self.key:
            self.key, self.task = key, None  # free the old one first
            self.task = Task.load(
                run.dataset, run.config["split"], self.device, sealed=self.sealed, clicks=clicks_of(run.config)
            )
        return self.task


def _attempt(run: Run, root: Path, settings: Settings, console: Console, tasks: Callable[[Run], Task]) -> Outcome:
    """Execute a run; any error is written to its folder, unless the folder is another process's."""
    folder = run.folder(root)
    try:
        result = execute(run, root, settings=settings, console=console, task=tasks(run))
    except LockedError:
        return Outcome(run, folder, None, LOCKED)
    except Exception as error:  # a bug in one row must not stop the others
        told = f"{'' if isinstance(error, RecgraphError) else f'{type(error).__name__}: '}{error}"
        write_text(folder / "error.txt", f"{told}\n\n{traceback.format_exc()}")
        return Outcome(run, folder, None, told)
    (folder / "error.txt").unlink(missing_ok=True)
    return Outcome(run, folder, result)


def _in_processes(runs: Sequence[Run], root: Path, settings: Settings, workers: int, report: Report) -> list[Outcome]:
    waiting = dict(enumerate(runs))
    working: dict[Any, tuple[int, Run, SpawnProcess]] = {}
    outcomes: dict[int, Outcome] = {}
    try:
        while waiting or working:
            while len(working) < workers:
                ended = [one.run for one in outcomes.values() if one.result]
                number = _free(waiting, [run for _, run, _ in working.values()], ended, root)
                if number is None:
                    break
                run = waiting.pop(number)
                (run.folder(root) / "error.txt").unlink(missing_ok=True)  # of an earlier attempt
                process = start(_work, run, root, settings, workers=workers)
                working[process.sentinel] = number, run, process
            for sentinel in wait(list(working)):
                number, run, process = working.pop(sentinel)
                process.join()
                outcomes[number] = _ended(run, run.folder(root), process)
                report(outcomes[number])
    finally:
        for _, _, process in working.values():
            process.terminate()
    return [outcomes[number] for number in range(len(runs))]


def _free(waiting: Mapping[int, Run], working: Sequence[Run], ended: Sequence[Run], root: Path) -> int | None:
    """The first run, by number, with nothing to train that one at work trains and none that ended has; else None."""
    for number, run in waiting.items():
        parts = [(run, run.folder(root)), *((one, there) for _, one, there in sources_of(run, run.folder(root)))]
        left = [part for part, folder in parts if not (folder / LAST).exists()]
        left = [part for part in left if not any(will_spare(one, part) for one in ended)]
        if not any(will_spare(one, part) for one in working for part in left):
            return number
    return None


def _work(run: Run, root: Path, settings: Settings) -> None:
    """A worker process: executes one run."""
    quiet = Console(quiet=True)
    outcome = _attempt(run, root, settings, quiet, Tasks(settings.device))
    if outcome.error:
        raise SystemExit(os.EX_TEMPFAIL if outcome.error == LOCKED else outcome.error)


def start(target: Callable[..., None], *arguments: Any, workers: int) -> SpawnProcess:
    """Start a process with its share of the cores, which ends when this process ends, in whatever way.

    Args:
        target: a module-level function, called in the new process.
        arguments: its arguments, which are pickled.
        workers: number of processes that share the machine's cores.
    """
    context = multiprocessing.get_context("spawn")  # forking a process with torch's threads can deadlock
    process = context.Process(target=_mortal, args=(target, *arguments), daemon=True)
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    given = {name: os.environ.get(name, "") for name in THREADS}
    fewer = {name: str(min(threads, int(one)) if one.isdecimal() else threads) for name, one in given.items()}
    with _environment(fewer):
        process.start()
    return process


def killed_by(exitcode: int) -> str:
    """Why a process ended with a negative exit code."""
    name = signal.Signals(-exitcode).name
    return f"the process was killed by {name} (SIGKILL is often a lack of memory)"


def _mortal(target: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    target(*arguments)


def _die_with_parent() -> None:
    """Exit when the parent does; otherwise the worker of a killed parent would keep the run's lock."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _ended(run: Run, folder: Path, process: SpawnProcess) -> Outcome:
    """The outcome of a process that has ended."""
    if process.exitcode == 0:
        return Outcome(run, folder, read_result(folder))
    if process.exitcode == os.EX_TEMPFAIL:
        return Outcome(run, folder, None, LOCKED)
    if process.exitcode is not None and process.exitcode < 0:
        return Outcome(run, folder, None, killed_by(process.exitcode))
    written = folder / "error.txt"
    if not written.exists():
        return Outcome(run, folder, None, f"its process ended with code {process.exitcode} before the run began")
    return Outcome(run, folder, None, written.read_text(encoding="utf-8").partition("\n\nTraceback")[0])


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass(frozen=True)
class Cell:
    """A run in a dry run.

    Attributes:
        run: the run.
        state: "done", "stale" (finished on other data or by other code), "trained" (as a finished run is, only to be
            evaluated), "begun" (by itself, or as a shorter run that is finished) or "to do".
        seconds: expected duration, the mean of earlier runs of the row on the dataset; 0 if done or trained, None if
            unknown.
    """

    run: Run
    state: str
    seconds: float | None


def preview(runs: Sequence[Run], root: Path, *, settings: Settings) -> list[Cell]:
    """What would be executed, and for how long; nothing is executed."""
    earlier: dict[tuple[str, str], list[float]] = {}
    for table in {run.table for run in runs}:
        for path in (root / table).rglob("result.json"):
            result = read_result(path.parent)
            seconds = max(result["seconds"], result["train_seconds"])  # the former leaves out what was taken over
            earlier.setdefault((result["row"], result["dataset"]), []).append(seconds)
    tasks, cells = Tasks(settings.device), []
    for run in runs:
        folder, state = run.folder(root), "to do"
        if (folder / "result.json").is_file():
            current = is_current(read_result(folder), tasks(run), run.config, any_code=settings.any_code)
            state = "done" if current else "stale"
        elif (folder / "checkpoint").exists():
            state = "begun"
        elif there := trained(run, root, partial(tasks, run)):
            same = config_of(there[0])["train"] == run.config["train"]
            state = "trained" if same and (not run.config["refit"] or (there[0] / REFIT).is_file()) else "begun"
        times = [0.0] if state in ("done", "trained") else earlier.get((run.row, run.dataset))
        cells.append(Cell(run, state, statistics.mean(times) if times else None))
    return cells
