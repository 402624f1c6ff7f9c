"""Trackers follow a run: a JSONL file always, and a progress bar on a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from recgraph.files import write_text

Record = dict[str, Any]
"""Record of an epoch: `epoch`, its `seconds`, `elapsed` (seconds of training so far), `losses` by objective, `balance`
(the factors of tasks, if balanced), and, if validated, `validation` by metric."""


class Tracker:
    """Base of trackers: does nothing; subclasses override the methods they need."""

    def start(self, epoch: int, max_epochs: int, best: float) -> None:
        """Training starts, or resumes after `epoch` epochs with the best value `best`; later records are discarded."""

    def step(self, step: int, steps: int) -> None:
        """Batch `step` of `steps` of the current epoch is done."""

    def epoch(self, record: Record) -> None:
        """An epoch is done."""

    def finish(self) -> None:
        """Training has ended, in whatever way."""

    def result(self, result: Mapping[str, Any]) -> None:
        """The run is complete; `result` is the content of its `result.json`."""

    def close(self) -> None:
        """The run has ended; without a `result` before, it has failed."""


class JsonLines(Tracker):
    """Appends each epoch's record to a file, one JSON object per line.

    Args:
        path: the file. On resuming, records after the checkpoint and lines cut short by a kill are dropped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, epoch: int, max_epochs: int, best: float) -> None:
        """Keep the first `epoch` records."""
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        write_text(self.path, "".join(lines[:epoch]))

    def epoch(self, record: Record) -> None:
        """Append a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


class ProgressBar(Tracker):
    """A bar over epochs with losses, seconds per epoch and the best validation metric.

    Not on a terminal, it is a line on stderr at each validation, for a log.

    Args:
        title: what is being trained.
        monitor: the metric to show.
        console: where to draw.
    """

    def __init__(self, title: str, monitor: str, console: Console) -> None:
        self.title, self.monitor, self.best = title, monitor, float("-inf")
        self.log = Console(stderr=True, quiet=console.is_terminal or console.quiet)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.epochs = self.progress.add_task(title, note="", total=None)
        self.steps = self.progress.add_task("  batches", note="", total=None)

    def start(self, epoch: int, max_epochs: int, best: float) -> None:
        """Show the bar."""
        self.best, self.max_epochs = best, max_epochs
        self.progress.start()
        self.progress.update(self.epochs, completed=epoch, total=max_epochs)

    def step(self, step: int, steps: int) -> None:
        """Move the inner bar."""
        self.progress.update(self.steps, completed=step, total=steps)

    def epoch(self, record: Record) -> None:
        """Move the outer bar."""
        self.best = max(self.best, record.get("validation", {}).get(self.monitor, self.best))
        losses = " ".join(f"{role} {value:.4f}" for role, value in record["losses"].items())
        best = f" · best {self.monitor} {self.best:.4f}" if self.best > float("-inf") else ""
        note = f"{losses} · {record['seconds']:.2f} s/epoch{best}"
        self.progress.update(self.epochs, advance=1, note=note)
        if "validation" in record:
            done = f"{self.title} · epoch {record['epoch']} of {self.max_epochs}"
            self.log.print(f"{done} · {note}", markup=False, highlight=False, soft_wrap=True)

    def finish(self) -> None:
        """Remove the bar."""
        if not self.progress.disable:  # older versions of rich print an empty line when a disabled bar stops
            self.progress.stop()
