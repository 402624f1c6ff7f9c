"""Trackers watch a run: a JSONL file always, a progress bar where somebody is looking."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from recgraph.files import write_text

Record = dict[str, Any]
"""What happened in an epoch: `epoch`, its `seconds`, those `elapsed` in training so far, `losses` by objective; in
`balance` the factors of tasks, where these are weighed; and, if validated, `validation` by metric."""


class Tracker:
    """Does nothing; subclasses override what they care about."""

    def start(self, epoch: int, max_epochs: int, best: float) -> None:
        """Training starts, or resumes after `epoch` epochs with `best` so far; later records are forgotten."""

    def step(self, step: int, steps: int) -> None:
        """Batch `step` of `steps` of the current epoch is done."""

    def epoch(self, record: Record) -> None:
        """An epoch is done."""

    def finish(self) -> None:
        """Training is over, however it ended."""

    def result(self, result: Mapping[str, Any]) -> None:
        """The run is done, and this is its `result.json`."""

    def close(self) -> None:
        """Nothing more will come; without a `result` before it, the run failed."""


class JsonLines(Tracker):
    """Appends each epoch's record to a file, one JSON object a line.

    Args:
        path: the file. On resuming, records after the checkpoint, and a line cut short by a kill, are dropped.
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
    """A bar over epochs with the losses, the seconds an epoch and the best validation metric; silent off a terminal.

    Args:
        title: what is being trained.
        monitor: the metric to show.
        console: where to draw.
    """

    def __init__(self, title: str, monitor: str, console: Console) -> None:
        self.monitor, self.best = monitor, float("-inf")
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
        self.best = best
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
        self.progress.update(self.epochs, advance=1, note=f"{losses} · {record['seconds']:.2f} s/epoch{best}")

    def finish(self) -> None:
        """Take the bar away."""
        if not self.progress.disable:  # older versions of rich end a bar that is disabled with an empty line
            self.progress.stop()
