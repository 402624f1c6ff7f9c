"""A run with an encoder of histories: who sees what when, settings that reach their place, resuming, saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from test_trainer import Killed

from recgraph.data.importing import import_file
from recgraph.encoders import SequenceEncoder
from recgraph.errors import ConfigError
from recgraph.experiments.experiment import plan
from recgraph.experiments.running import Settings, execute, reevaluate
from recgraph.models.model import Model
from recgraph.models.recommender import Recommender
from recgraph.sampling.sequences import SequenceBatches
from recgraph.training.trainer import Trainer
from recgraph.types import MASK, PAD, Encoding, Inputs, Past

FILE = """
datasets: [planted]
seeds: [0]
base:
  split: leave_last_out
  encoder: {name: sasrec, dim: 8, max_length: 5}
  objectives: {rank: cross_entropy}
  train: {lr: 0.01, batch_size: 16, max_epochs: 4, patience: 4, validate_every: 2, checkpoint_every: 1, monitor: ndcg@10}
  evaluate: {metrics: [ndcg@10]}
rows:
  SASRec: {}
  popularity: {baseline: popularity}
"""
USERS = 40
PLANTED = ("val", "test")
"""Everybody's last item but one, and last, which nobody has before."""


@pytest.fixture
def planted(toy: Path) -> Path:
    """Users of 4 to 9 items in an order of time that is not the file's, and the two planted ones at the end."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(USERS):
        own = [f"i{item}" for item in rng.choice(15, size=rng.integers(4, 10), replace=False)]
        rows += [f"u{user:02d},{item},{time}" for time, item in enumerate([*own, *PLANTED])]
    (toy.parent / "planted.csv").write_text("who,what,when\n" + "\n".join(rng.permutation(rows)) + "\n")
    import_file(toy.parent / "planted.csv", user="who", item="what", time="when")
    (toy.parent / "sequential.yaml").write_text(FILE)
    return toy.parent / "sequential.yaml"


def run(file: Path, root: str = "runs", **changes: Any) -> Path:
    (one,) = plan(file, rows=["SASRec"], overrides=changes)
    execute(one, Path(root), settings=Settings(torch.device("cpu")), console=Console(quiet=True))
    return one.folder(Path(root))


Read = list[tuple[bool, set[int]]]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """Whether it was in training, and the items, of each history that an encoder is given."""
    found: Read = []
    query = SequenceEncoder.query

    def watched(self: SequenceEncoder, inputs: Inputs, catalogue: Encoding) -> torch.Tensor:
        assert inputs.history is not None
        found.extend((self.training, set(row) - {PAD, MASK}) for row in inputs.history.tolist())
        return query(self, inputs, catalogue)

    monkeypatch.setattr(SequenceEncoder, "query", watched)
    return found


OTHERS: dict[str, dict[str, Any]] = {
    "sasrec": {},
    "bert4rec": {"encoder": {"name": "bert4rec", "dim": 8, "max_length": 5}, "sequences.targets": "masked"},
    "pooling": {"encoder": {"name": "pooling", "dim": 8, "max_length": 5}},
}
DIN: dict[str, Any] = {"heads.rank": "din", "objectives.rank": "bce", "encoder": OTHERS["pooling"]["encoder"]}


@pytest.mark.parametrize("name", OTHERS)
def test_no_history_holds_what_is_yet_to_come(planted: Path, read: Read, name: str) -> None:
    folder = run(planted, **OTHERS[name])
    catalogue = Model.load(folder).catalogue
    validation, test = (int(catalogue.items.encode([item])[0]) + 1 for item in PLANTED)
    training = [items for learns, items in read if learns]
    ranking = [items for learns, items in read if not learns]
    assert len(training) == 4 * USERS
    assert not any({validation, test} & items for items in training)
    # Validated after epochs 2 and 4 and once at the end, then tested, then diagnosed by the training part.
    assert len(ranking) == 5 * USERS
    assert not any({validation, test} & items for items in ranking[: 3 * USERS] + ranking[4 * USERS :])
    assert all(validation in items and test not in items for items in ranking[3 * USERS : 4 * USERS])
    assert test not in Recommender.load(folder).histories.items


@pytest.mark.parametrize("targets", ["every", "last"])
def test_what_a_head_sees_of_a_history_ends_before_the_item_that_it_scores(
    planted: Path, targets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training against the data itself; later by the planted items."""
    seen: list[tuple[bool, list[int]]] = []
    asked, rows, make = [], Past.rows, SequenceBatches._batch

    def watched(self: Past) -> torch.Tensor:
        found = rows(self)
        seen.extend((torch.is_grad_enabled(), row) for row in found.tolist())
        return found

    def noted(self: SequenceBatches, chosen: Any) -> Any:
        batch = make(self, chosen)
        asked.extend(zip(batch.users.tolist(), batch.items.tolist(), strict=True))
        return batch

    monkeypatch.setattr(Past, "rows", watched)
    monkeypatch.setattr(SequenceBatches, "_batch", noted)
    folder = run(planted, **DIN, **{"sequences.targets": targets})
    catalogue = Recommender.load(folder).catalogue
    validation, test = (int(catalogue.items.encode([item])[0]) + 1 for item in PLANTED)
    items = Recommender.load(folder).histories.items.tolist()
    starts = Recommender.load(folder).histories.starts.tolist()
    training = [row for learns, row in seen if learns]
    assert len(training) == len(asked) > 4 * 5 * USERS / 2
    for (user, item), row in zip(asked, training, strict=True):
        whole = items[starts[user] : starts[user + 1]]
        before = whole[: whole.index(item + 1)][-5:]
        read = [step for step in row if step != PAD]
        assert read
        assert read == before[-len(read) :]  # with "every", what is long ago is in no row of the sequence
        assert targets == "every" or read == before
    ranked = [set(row) for learns, row in seen if not learns]
    assert not any(test in row for row in ranked)
    assert sum(validation in row for row in ranked) == USERS  # when test is ranked


def test_training_targets_are_train_items(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    make = SequenceBatches._batch

    def watched(self: SequenceBatches, chosen: Any) -> Any:
        batch = make(self, chosen)
        seen.update(batch.items.tolist())
        return batch

    monkeypatch.setattr(SequenceBatches, "_batch", watched)
    catalogue = Model.load(run(planted)).catalogue
    assert len(seen) == 15
    assert not seen & set(catalogue.items.encode(list(PLANTED)).tolist())


def test_a_saved_model_ranks_as_the_run_did(planted: Path) -> None:
    folder = run(planted)
    (name, validation, test) = reevaluate(folder, [], torch.device("cpu"))[0]
    result = execute(
        plan(planted, rows=["SASRec"])[0],
        Path("runs"),
        settings=Settings(torch.device("cpu")),
        console=Console(quiet=True),
    )
    assert (validation, test) == (result["validation"][name], result["test"][name])
    assert len(Model.load(folder).recommend("u03", 3)) == 3


@pytest.mark.parametrize("targets", ["every", "last", "masked"])
def test_a_killed_run_ends_where_an_undisturbed_one_does(
    planted: Path, targets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"sequences.targets": targets} | (OTHERS["bert4rec"] if targets == "masked" else {})
    whole = run(planted, "whole", **changes)
    epoch = Trainer._epoch

    def killed(self: Trainer, progress: Any, *rest: Any) -> Any:
        if progress.epoch == 3:
            raise Killed
        return epoch(self, progress, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_epoch", killed)
        with pytest.raises(Killed):
            run(planted, "halves", **changes)
    halves = run(planted, "halves", **changes)
    one, two = (Model.load(folder).state_dict() for folder in (whole, halves))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_settings_reach_the_batches(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[SequenceBatches] = []
    length = SequenceBatches.__len__
    monkeypatch.setattr(SequenceBatches, "__len__", lambda self: made.append(self) or length(self))
    run(planted, **{"sequences.targets": "last"})
    assert {(batches.targets, batches.max_length, batches.batch_size) for batches in made} == {("last", 5, 16)}


def test_targets_that_the_encoder_cannot_learn_from_are_refused(planted: Path) -> None:
    with pytest.raises(ConfigError, match=r"SASRec as configured learns from \['last'\], got 'every'"):
        run(planted, **{"encoder.norm": "post", "encoder.frequency": 0.7})
    with pytest.raises(ConfigError, match=r"BERT4Rec as configured learns from \['masked'\], got 'every'"):
        run(planted, **{"encoder": "bert4rec"})


def test_users_are_not_drawn_where_negatives_are_corrected_for_the_frequency_of_rows(planted: Path) -> None:
    changes = {
        **{"encoder": "embedding", "train.draw_by": "user", "negatives": "in_batch"},
        "objectives.rank": {"name": "softmax", "logq": True},
    }
    with pytest.raises(ConfigError, match=r"negatives: `logq` takes in_batch .* not where users are drawn"):
        plan(planted, rows=["SASRec"], overrides=changes)
    with pytest.raises(ConfigError, match=r"negatives: `logq` takes in_batch .* not as targets of histories"):
        plan(planted, rows=["SASRec"], overrides={key: changes[key] for key in ("negatives", "objectives.rank")})
    for change in ({"train.draw_by": "interaction"}, {"objectives.rank": "softmax"}, {"negatives": "popularity"}):
        assert plan(planted, rows=["SASRec"], overrides=changes | change)


def test_users_are_not_drawn_where_rows_are_histories(planted: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.draw_by: 'user' draws single interactions, and rows are histories"):
        plan(planted, rows=["SASRec"], overrides={"train.draw_by": "user"})
    (pairs,) = plan(planted, rows=["SASRec"], overrides={"encoder": "embedding", "train.draw_by": "user"})
    assert pairs.config["train"]["draw_by"] == "user"


def test_runs_without_histories_are_what_they_were(planted: Path) -> None:
    (one,) = plan(planted, rows=["SASRec"])
    assert one.config["sequences"] == {"targets": "every"}
    (pairs,) = plan(planted, rows=["SASRec"], overrides={"encoder": "embedding"})
    assert "sequences" not in pairs.config
    with pytest.raises(ConfigError, match=r"sequences\.targets"):
        plan(planted, overrides={"sequences.targets": "first"})
