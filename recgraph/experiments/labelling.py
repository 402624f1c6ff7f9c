"""Label predictions of a recommender's heads, and their metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int

from recgraph.data.labels import LabelData, Part
from recgraph.encoders.base import lookup
from recgraph.evaluation.prediction import Predictions, baseline, measure
from recgraph.files import replacing
from recgraph.models.recommender import Recommender

ROWS = 2**16
"""Number of interactions whose labels are predicted at once: 50 MB for vectors of width 64."""


def heads_of(labels: Mapping[str, LabelData], objectives: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Label -> options of its head, as set by the objectives of a configuration."""
    hidden = {spec["of"]: spec["hidden"] for spec in objectives.values() if spec["name"] == "label"}
    return {
        name: {
            "of": label.settings.of,
            "kind": label.kind,
            "width": label.width,
            "hidden": list(hidden[name]),
            "pair": label.settings.pair,
            "text_width": 0 if label.text is None else label.text.shape[1],
            **({} if (weights := label.class_weights) is None else {"class_weights": weights.tolist()}),
        }
        for name, label in labels.items()
    }


@torch.no_grad()
def predictions(model: Recommender, labels: Mapping[str, LabelData], part: Part) -> dict[str, Predictions]:
    """A model's predictions for the labels of a part; the model must have observed the histories it reads."""
    model.eval()
    shared = model.encode_all() if model.sharing is None else None
    found = {}
    for name, label in labels.items():
        encoding = model.encode_all(name) if shared is None else shared
        head, examples = model.label_head(name), label.examples[part]
        outputs = []
        for start in range(0, len(examples.values), ROWS):
            some = slice(start, start + ROWS)
            query, item, text = (
                None if side is None else side[some].to(model.device)
                for side in (examples.users, examples.items, examples.text)
            )
            told = head(
                None if query is None else lookup(encoding.query, query),
                None if item is None else lookup(encoding.items, item),
                text,
            )
            outputs.append(told.float().cpu())
        found[name] = Predictions(label.kind, _in_units(label, torch.cat(outputs).numpy()), examples.values.numpy())
    return found


def guesses(labels: Mapping[str, LabelData], part: Part) -> dict[str, Predictions]:
    """Constant predictions for a part, from the labels that training sees alone."""
    found = {}
    for name, label in labels.items():
        targets = label.examples[part].values.numpy()
        guess = baseline(label.kind, label.width, label.learned.numpy(), targets)
        found[name] = Predictions(label.kind, _in_units(label, guess.outputs), targets)
    return found


def figures(predictions: Mapping[str, Predictions]) -> dict[str, float]:
    """Metrics of predictions: label:metric -> value."""
    return {f"{name}:{metric}": value for name, one in predictions.items() for metric, value in measure(one).items()}


def write_predictions(path: Path, predictions: Mapping[str, Predictions]) -> None:
    """Write predictions as parquet: `label`, `kind`, and lists of the `outputs` and `targets` of each row, in order."""
    frames = [
        pl.DataFrame(
            {
                "label": [name] * len(one.targets),
                "kind": [one.kind] * len(one.targets),
                "outputs": one.outputs.astype(np.float32).tolist(),
                "targets": one.targets.reshape(len(one.targets), -1).astype(np.float64).tolist(),
            }
        )
        for name, one in predictions.items()
    ]
    with replacing(path) as temporary:
        pl.concat(frames).write_parquet(temporary)


def read_predictions(path: Path) -> dict[str, Predictions]:
    """Read what `write_predictions` wrote, its outputs rounded to float32."""
    found = {}
    for (name, kind), rows in pl.read_parquet(path, glob=False).group_by("label", "kind", maintain_order=True):
        outputs, targets = (np.array(rows[column].to_list()) for column in ("outputs", "targets"))
        if kind != "tags":
            targets = targets[:, 0].astype(np.int64 if kind == "classes" else np.float64)
        found[str(name)] = Predictions(kind, outputs, targets)
    return found


def _in_units(label: LabelData, outputs: np.ndarray) -> np.ndarray:
    """A number's predictions as it is measured, not standardised; others unchanged."""
    return label.mean + label.scale * outputs.astype(np.float64) if label.kind == "number" else outputs


@torch.no_grad()
def gates(
    model: Recommender, side: Literal["query", "item"], indices: Int[torch.Tensor, "rows"]
) -> dict[str, tuple[tuple[str, ...], Float[torch.Tensor, "rows experts"]]]:
    """The weights of the experts in each task, for some users (side "query") or items; empty without experts.

    Args:
        model: must have observed the histories it reads.
        side: whose gates.
        indices: indices of users, or of items.

    Returns:
        Task -> names of its experts, and their weights, which sum to 1.
    """
    sharing = model.sharing
    if sharing is None:
        return {}
    encoding = model.eval().encode_all(None)
    vectors = lookup(encoding.query if side == "query" else encoding.items, indices.to(model.device))
    found = sharing.gates(side, vectors)
    return {task: (sharing.expert_names(side, task), weights.cpu()) for task, weights in found.items()}
