"""How fast the validation metric rises in a run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

REACHED = ("epochs_to_95", "seconds_to_95", "epochs_to_99", "seconds_to_99")
"""Epochs and seconds until validation reaches 95% and 99% of its best value, for models trained in epochs."""


class Point(NamedTuple):
    """The validation metric after some epochs and seconds of training, a warm start included."""

    value: float
    epoch: int
    seconds: float


def curve(folder: Path) -> list[Point]:
    """The metric that chooses the epoch, at each validation of a run; empty for a baseline."""
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    if "baseline" in config:
        return []
    monitor = config["train"]["monitor"]
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [
        Point(line["validation"][monitor], line["epoch"], line["elapsed"]) for line in lines if "validation" in line
    ]


def until(points: list[Point], mark: float) -> Point | None:
    """The first point whose value is at least `mark`; None if there is none."""
    return next((point for point in points if point.value >= mark), None)


def seconds_until(mark: float, folders: Sequence[Path]) -> float | None:
    """Mean over runs of the seconds until validation reaches `mark`; None if a run never does."""
    points = [until(curve(folder), mark) for folder in folders]
    return statistics.mean(point.seconds for point in points if point) if all(points) else None


def reached(points: list[Point]) -> dict[str, float]:
    """The values of `REACHED`; empty without points."""
    if not points:
        return {}
    best = max(point.value for point in points)
    found = [until(points, best * share / 100) for share in (95, 99)]
    return dict(zip(REACHED, (part for point in found if point for part in point[1:]), strict=True))
