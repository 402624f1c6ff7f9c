"""How fast the validation metric rises in a run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from recgraph.files import undamaged

REACHED = ("epochs_to_95", "seconds_to_95", "epochs_to_99", "seconds_to_99")
"""Epochs and seconds until validation reaches 95% and 99% of its best value, for models trained in epochs."""


class Point(NamedTuple):
    """The validation metric after some epochs and seconds of training, a warm start included."""

    value: float
    epoch: int
    seconds: float


def curve(folder: Path) -> list[Point]:
    """The metric that chooses the epoch, at each validation of a run; empty for a baseline."""
    with undamaged(folder / "config.yaml") as path:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        monitor = None if "baseline" in config else config["train"]["monitor"]
    if monitor is None:
        return []
    with undamaged(folder / "metrics.jsonl") as path:
        lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return [
            Point(line["validation"][monitor], line["epoch"], line["elapsed"]) for line in lines if "validation" in line
        ]


def seconds_to(part: float, whole: float, folders: Sequence[Path]) -> float | None:
    """Mean over runs of the seconds until validation reaches part / whole of its own best; None if part > whole."""
    if part > whole:
        return None
    return statistics.mean(_until(curve(folder), part / whole).seconds for folder in folders)


def reached(points: list[Point]) -> dict[str, float]:
    """The values of `REACHED`; empty without points."""
    if not points:
        return {}
    found = [_until(points, share) for share in (0.95, 0.99)]
    return dict(zip(REACHED, (part for point in found for part in point[1:]), strict=True))


def _until(points: list[Point], share: float) -> Point:
    """The first point whose value is at least this share, up to 1, of the best."""
    best = max(point.value for point in points)
    return next(point for point in points if point.value >= share * best)
