"""scikit-learn's TF-IDF and logistic regression on the reviews of experiments/sentiment_instruments.yaml.

Run `python scripts/sentiment_reference.py`. It prints AUC, accuracy and macro-F1 on validation and test, for plain and
for class-balanced logistic regression. C is the best of three by macro-F1 on validation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from recgraph.cli.common import say
from recgraph.evaluation.prediction import Predictions, measure
from recgraph.experiments.experiment import plan
from recgraph.experiments.fitting import labels_of
from recgraph.experiments.task import Task

COSTS = (1.0, 10.0, 100.0)


def main() -> None:
    """Fit the classifiers and print their metrics."""
    file = Path(__file__).resolve().parent.parent / "experiments" / "sentiment_instruments.yaml"
    run = plan(file, seeds=[0])[0]
    task = Task.load(run.dataset, run.config["split"], torch.device("cpu"))
    labels = labels_of(run, task)["review"]
    frames = {"train": task.train.frame, "validation": task.validation.frame, "test": task.parts()["test"].frame}
    texts, targets = {}, {}
    for part, frame in frames.items():
        known = frame["rating"] != labels.settings.around
        texts[part] = frame.filter(known)["review"].fill_null("").to_list()
        targets[part] = labels.examples[part].values.numpy()
    vectors = TfidfVectorizer(sublinear_tf=True, min_df=2).fit(texts["train"])
    inputs = {part: vectors.transform(text) for part, text in texts.items()}
    for weight in (None, "balanced"):
        found = []
        for cost in COSTS:
            model = LogisticRegression(C=cost, class_weight=weight, max_iter=1000).fit(
                inputs["train"], targets["train"]
            )
            figures = {}
            for part in ("validation", "test"):
                margin = model.decision_function(inputs[part])
                outputs = np.stack([np.zeros_like(margin), margin], 1)
                figures[part] = measure(Predictions("classes", outputs, targets[part]))
            found.append((figures["validation"]["macro_f1"], cost, figures))
        _, cost, figures = max(found, key=lambda one: one[0])
        for part, values in figures.items():
            shown = " ".join(f"{metric} {value:.4f}" for metric, value in values.items())
            say(f"{'even' if weight else 'plain'} C {cost:g} {part} ({len(targets[part])} reviews): {shown}")


if __name__ == "__main__":
    main()
