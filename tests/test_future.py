"""Nothing of what comes later is seen: every user's last items, their words, kinds and labels are planted, and looked for.

Two films come out last. Everybody has one of them last, which is test, and the other before it, which is validation;
their kind, the words of their titles and those of what is said of them are on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from rich.console import Console

from recgraph.data import content, labels
from recgraph.data.interactions import Interactions
from recgraph.data.modalities import FittedModality
from recgraph.evaluation.ranking import Evaluation
from recgraph.experiments.experiment import plan
from recgraph.experiments.running import Settings, execute
from recgraph.experiments.task import Task
from recgraph.models.recommender import Recommender
from recgraph.objectives import Objectives
from recgraph.types import MASK, PAD, Batch

USERS, ITEMS = 40, 16
LATER = {"late0", "late1"}
FILE = """
datasets: [films]
seeds: [0]
base:
  content:
    kind: {columns: [kind], ids: true, min_count: 1}
    title: {columns: [title], min_count: 1, max_share: 1, dim: 4}
  labels:
    group: {of: user, feature: group, holdout: [0.2, 0.2]}
    mood: {of: item, feature: mood, holdout: [0.3, 0.3]}
    liked: {of: interaction, feature: rating, around: 3, text: review, text_dim: 4}
  objectives: {rank: bce}
  train: {lr: 0.01, batch_size: 64, max_epochs: 1, patience: 1, validate_every: 1, monitor: ndcg@5}
  evaluate: {metrics: [ndcg@5]}
rows:
  graph:
    encoder: {name: lightgcn, dim: 4}
    negatives: popularity
    objectives.group: {name: label, of: group}
    objectives.mood: {name: label, of: mood}
    objectives.liked: {name: label, of: liked}
  every: &history
    encoder: {name: sasrec, dim: 4, max_length: 4}
    heads.rank: din
    objectives.group: {name: label, of: group}
    objectives.mood: {name: label, of: mood}
  last: {<<: *history, sequences.targets: last, objectives.ssl: same_target_contrast}
  masked: {<<: *history, encoder: {name: bert4rec, dim: 4, max_length: 4}, sequences.targets: masked}
  fields: {encoder: {name: fields, dim: 4}, heads.rank: wide_deep}
  clicks:
    clicks: {positive: 4}
    encoder: {name: fields, dim: 4, context: [hour]}
    heads.rank: wide_deep
    objectives: {click: log_loss}
    train.monitor: auc
    evaluate.metrics: [auc]
"""


@pytest.fixture
def films(toy: Path) -> Path:
    """A dataset with attributes, texts and times, in no order."""
    rng, root = np.random.default_rng(0), Path("data")
    rows = []
    for user in range(USERS):
        own = [f"i{item}" for item in rng.choice(ITEMS, size=rng.integers(5, 10), replace=False)]
        last = [f"late{(user + n) % 2}" for n in range(2)]
        for n, item in enumerate([*own, *last]):
            word = "unheard" if item in LATER else "heard"
            rows.append(
                (user, item, int(rng.choice([1, 5])), 10_000 * n + user, f"{word} {rng.choice(['well', 'ill'])}")
            )
    names = [*(f"i{item}" for item in range(ITEMS)), *sorted(LATER)]
    tables = {
        "ratings": pl.DataFrame(rows, ["user", "item", "rating", "time", "review"], orient="row").sample(
            fraction=1, shuffle=True, seed=0
        ),
        "items": pl.DataFrame(
            {
                "item": names,
                "kind": ["late" if name in LATER else f"k{n % 3}" for n, name in enumerate(names)],
                "title": [("unseen one" if name in LATER else f"seen {'ab'[n % 2]}x") for n, name in enumerate(names)],
                "mood": [("glad", "sad")[n // 3 % 2] for n in range(len(names))],
            }
        ),
        "users": pl.DataFrame({"user": range(USERS), "group": [("one", "two")[n // 2 % 2] for n in range(USERS)]}),
    }
    folder = root / "raw" / "films"
    folder.mkdir(parents=True)
    for name, frame in tables.items():
        frame.write_csv(folder / f"{name}.csv")
    kinds = {"kind": "categorical", "title": "text", "mood": "categorical", "group": "categorical"}
    columns = {"user": "int", "item": "str", "rating": "float", "time": "int", "review": "str"}
    card = {"name": "films", "title": "Films", "licence": "own", "splits": {"leave_last_out": {}}}
    card["forms"] = {
        "own": {
            "files": {f"{name}.csv": {} for name in tables},
            "interactions": [{"file": "ratings.csv", "read": {"format": "csv", "columns": columns}}],
            "features": [
                {
                    "file": f"{side}s.csv",
                    "read": {
                        "format": "csv",
                        "columns": {name: "int" if name == "user" else "str" for name in tables[f"{side}s"].columns},
                    },
                    "features": {name: {"kind": kinds[name]} for name in tables[f"{side}s"].columns[1:]},
                }
                for side in ("item", "user")
            ],
        }
    }
    card["expected"] = {"users": USERS, "items": len(names), "interactions": len(rows)}
    (root / "films.yaml").write_text(yaml.safe_dump(card))
    (toy.parent / "films.yaml").write_text(FILE)
    return toy.parent / "films.yaml"


@dataclass
class Seen:
    """What reaches a model of a run, and when."""

    task: Task | None = None
    phase: str = "train"
    batches: list[Batch] = field(default_factory=list)
    fitted: list[FittedModality] = field(default_factory=list)
    observed: list[tuple[str, Interactions]] = field(default_factory=list)
    read: list[tuple[str, torch.Tensor, torch.Tensor]] = field(default_factory=list)
    graphs: list[Any] = field(default_factory=list)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Filled while a run goes on."""
    found = Seen()

    def watch(owner: Any, name: str, note: Any) -> None:
        original = getattr(owner, name)

        def watched(*given: Any, **more: Any) -> Any:
            result = original(*given, **more)
            note(result, *given)
            return result

        monkeypatch.setattr(owner, name, watched)

    def phase(name: str) -> None:
        original = getattr(Task, name)

        def watched(self: Task, *given: Any, **more: Any) -> Evaluation:
            found.task, found.phase = (
                self,
                {"validation": "validate"}.get(given[-1], "test") if name == "predict" else name,
            )
            try:
                return original(self, *given, **more)
            finally:
                found.phase = "train"

        monkeypatch.setattr(Task, name, watched)

    for name in ("validate", "test", "predict"):
        phase(name)
    watch(Objectives, "backward", lambda _, __, ___, batch: found.batches.append(batch))
    for module in (content, labels):
        watch(module, "fit_modality", lambda fitted, *_: found.fitted.append(fitted))
    watch(Recommender, "observe", lambda _, __, table: found.observed.append((found.phase, table)))
    watch(Recommender, "_past", lambda past, _, users: found.read.append((found.phase, users.cpu(), past.history)))
    watch(Recommender, "__init__", lambda _, model, *__, **___: found.graphs.append(model.graph))
    return found


def pairs(table: Interactions) -> set[tuple[int, int]]:
    return set(zip(table.user_indices.tolist(), table.item_indices.tolist(), strict=True))


@pytest.mark.parametrize("row", ["graph", "every", "last", "masked", "fields", "clicks"])
def test_nothing_of_the_future_is_seen(films: Path, row: str, seen: Seen) -> None:
    (run,) = plan(films, rows=[row])
    execute(run, Path("runs"), settings=Settings(torch.device("cpu")), console=Console(quiet=True))
    task = seen.task
    train, validation, test = (task.parts()[name] for name in ("train", "validation", "test"))
    late = set(train.items.encode(pl.Series(sorted(LATER))).tolist())
    assert {item for part in (validation, test) for _, item in pairs(part)} == late
    known, order = (
        pairs(train),
        dict(zip(zip(train.user_indices, train.item_indices, strict=True), train.frame["time"], strict=True)),
    )

    assert seen.batches
    rows = 0
    for batch in seen.batches:
        inputs, users, items = batch.inputs, batch.users.tolist(), batch.items.tolist()
        rows += len(items)
        assert not late & set(items)
        assert set(zip(users, items, strict=True)) <= known
        for table in (inputs.history, batch.partners):
            assert table is None or not (late & set((table - 1).flatten().tolist()))
        if batch.partners is not None:
            assert not (batch.partners - 1 == batch.items[:, None]).any()
        if inputs.history is not None:
            width = inputs.history.shape[1]
            for place, (user, item) in enumerate(zip(users, items, strict=True)):
                where = place * width + width - 1 if inputs.positions is None else int(inputs.positions[place])
                own = inputs.history[where // width].tolist()
                before = own if row == "masked" else own[: where % width + 1]
                read = [one - 1 for one in before if one not in (PAD, MASK)]
                assert item not in read
                assert {(user, one) for one in read} <= known
                if row != "masked":
                    assert all(order[user, one] < order[user, item] for one in read)
        if inputs.context is not None:
            hours = [order[pair] // 3600 % 24 for pair in zip(users, items, strict=True)]
            assert inputs.context[:, 0].tolist() == hours
        for name, values in batch.labels.items():
            if name in ("group", "mood"):
                side = "users" if name == "group" else "items"
                held = set(getattr(task.labels(run.config["labels"], seed=0)[name].examples["test"], side).tolist())
                held |= set(
                    getattr(task.labels(run.config["labels"], seed=0)[name].examples["validation"], side).tolist()
                )
                owners = users if name == "group" else items
                assert {value < 0 for owner, value in zip(owners, values.tolist(), strict=True) if owner in held} <= {
                    True
                }
    if row == "graph":
        ratings = dict(zip(order, train.frame["rating"], strict=True))
        for batch in seen.batches:
            told = zip(batch.users.tolist(), batch.items.tolist(), batch.labels["liked"].tolist(), strict=True)
            assert all(label == (ratings[user, item] > 3) for user, item, label in told)
            assert not late & set(batch.negatives.flatten().tolist())  # which popularity never draws
        assert rows == len(train)
    for graph in seen.graphs:
        assert graph is None or set(zip(graph.users.tolist(), graph.items.tolist(), strict=True)) == known
    words = {term for one in seen.fitted for term in one.terms}
    assert bool(words) == (row in ("graph", "fields", "clicks"))
    assert not words & {"unheard", "unseen", "kind=late"}

    for phase, table in seen.observed:
        assert pairs(table) == known or (pairs(table) == known | pairs(validation) and phase != "validate")
    for phase, users, history in seen.read:
        allowed = known if phase != "test" else known | pairs(validation)
        for user, own in zip(users.tolist(), history.tolist(), strict=True):
            assert {(user, one - 1) for one in own if one != PAD} <= allowed
    assert (row in ("every", "last", "masked")) == any(phase == "test" for phase, *_ in seen.read)
