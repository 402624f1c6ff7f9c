"""Metrics of label prediction: AUC, accuracy, macro-F1 and RMSE.

AUC, F1 and RMSE are computed by scikit-learn. A value is called `label:metric`, such as "gender:auc".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Num

from recgraph.types import LabelKind

METRICS: Mapping[LabelKind, Sequence[str]] = {
    "classes": ("auc", "accuracy", "macro_f1"),
    "tags": ("auc", "accuracy", "macro_f1"),
    "number": ("rmse",),
}
"""Metrics of each kind of label."""

LOWER_IS_BETTER = frozenset({"rmse"})

DEFINITIONS: Mapping[str, str] = {
    "auc": (
        "Chance that a random row that has the class gets a higher probability of it than one that has not; of more "
        "than two classes, or of tags, the plain mean over those that some rows of the part have and others have not."
    ),
    "accuracy": "Share of rows whose likeliest class is the right one; of tags, share of yes-or-no answers that are.",
    "macro_f1": (
        "Plain mean of the F1 of each class that is there or is predicted; of tags, of those that some rows of the "
        "part have and others have not, predicted at a probability of ½."
    ),
    "rmse": "Root of the mean squared error, in the label's own unit.",
}


@dataclass(frozen=True, eq=False)
class Predictions:
    """A head's outputs for the rows of a part, and the true labels.

    Attributes:
        kind: kind of the label.
        outputs: logits of classes or tags; or numbers in their own unit [rows, 1].
        targets: class numbers; 0 and 1 for each tag; or numbers in their own unit.
    """

    kind: LabelKind
    outputs: Float[np.ndarray, "rows width"]
    targets: Num[np.ndarray, "rows *tags"]

    def select(self, rows: np.ndarray) -> Predictions:
        """The given rows, which may repeat."""
        return Predictions(self.kind, self.outputs[rows], self.targets[rows])


def measure(predictions: Predictions) -> dict[str, float]:
    """Metric -> value, for the metrics of the label's kind.

    Raises:
        ValueError: all rows have the same class, or no tag is present in some rows and absent in others.
    """
    return {name: FUNCTIONS[name](predictions) for name in METRICS[predictions.kind]}


def auc(predictions: Predictions) -> float:
    """See `DEFINITIONS`."""
    from sklearn.metrics import roc_auc_score  # slow to import

    scores, truth = probabilities(predictions), truth_of(predictions)
    if predictions.kind == "classes" and scores.shape[1] == 2:
        scores, truth = scores[:, 1:], truth[:, 1:]
    both = _told_apart(truth)
    if not both.any():
        raise ValueError("nothing to tell apart: expected rows that have a class and rows that have not")
    return float(np.mean([roc_auc_score(truth[:, n], scores[:, n]) for n in np.flatnonzero(both)]))


def accuracy(predictions: Predictions) -> float:
    """See `DEFINITIONS`."""
    if predictions.kind == "classes":
        return float((predictions.outputs.argmax(1) == predictions.targets).mean())
    return float(((predictions.outputs > 0) == (predictions.targets > 0)).mean())


def macro_f1(predictions: Predictions) -> float:
    """See `DEFINITIONS`."""
    from sklearn.metrics import f1_score

    if predictions.kind == "classes":
        return float(f1_score(predictions.targets, predictions.outputs.argmax(1), average="macro", zero_division=0))
    both = _told_apart(truth_of(predictions))
    truth, said = predictions.targets[:, both] > 0, predictions.outputs[:, both] > 0
    return float(np.mean([f1_score(*pair, zero_division=0) for pair in zip(truth.T, said.T, strict=True)]))


def rmse(predictions: Predictions) -> float:
    """See `DEFINITIONS`."""
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(predictions.targets, predictions.outputs[:, 0]))


FUNCTIONS: Mapping[str, Callable[[Predictions], float]] = {
    "auc": auc,
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "rmse": rmse,
}


def baseline(kind: LabelKind, width: int, learned: np.ndarray, targets: np.ndarray) -> Predictions:
    """A constant prediction: the frequency of each class or tag in training, or the mean of a number.

    Args:
        kind: kind of the label.
        width: number of classes or tags; 1 for a number.
        learned: labels that training sees.
        targets: labels to be predicted.
    """
    if kind == "number":
        outputs = np.full((1, 1), learned.mean())
    elif kind == "classes":
        outputs = np.log(np.bincount(learned, minlength=width) + 1e-9)[None]
    else:
        share = learned.mean(0).clip(1e-9, 1 - 1e-9)
        outputs = np.log(share / (1 - share))[None]
    return Predictions(kind, outputs.repeat(len(targets), 0), targets)


def probabilities(predictions: Predictions) -> Float[np.ndarray, "rows width"]:
    """Probabilities of classes (softmax) or tags (sigmoid), in double precision: single rounds logits above 17 to 1."""
    from scipy.special import expit, softmax

    outputs = predictions.outputs.astype(np.float64)
    return softmax(outputs, 1) if predictions.kind == "classes" else expit(outputs)


def truth_of(predictions: Predictions) -> np.ndarray:
    """Whether each row has each class or tag [rows, width]."""
    if predictions.kind == "classes":
        return predictions.targets[:, None] == np.arange(predictions.outputs.shape[1])
    return predictions.targets > 0


def _told_apart(truth: np.ndarray) -> np.ndarray:
    return np.logical_and(truth.any(0), ~truth.all(0))
