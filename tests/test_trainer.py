"""The loop stops when it should, keeps the best state, resumes to the bit, and refuses to go on after a NaN."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import random_interactions
from pydantic import ValidationError
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from recgraph.encoders import Embedding, LightGCN
from recgraph.errors import TrainingError
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.heads import MLP, Dot
from recgraph.models.recommender import Recommender
from recgraph.objectives import (
    BCE,
    BPR,
    BSL,
    CCL,
    EgoL2,
    LayerContrast,
    Objective,
    Objectives,
    PrototypeContrast,
    ViewContrast,
    rows,
)
from recgraph.random import isolated, torch_generator
from recgraph.sampling.batches import Batches
from recgraph.sampling.negatives import Uniform
from recgraph.training.settings import TrainSettings
from recgraph.training.trackers import JsonLines
from recgraph.training.trainer import Trainer
from recgraph.types import Batch, Encoding, Inputs
from recgraph.views import SVD, EdgeDrop, NodeDrop, Noise, RandomWalk


def make_trainer(
    folder: Path,
    *,
    validate: Callable[[Recommender], Mapping[str, float]] = lambda _: {"ndcg@20": 0.0},
    extra: Mapping[str, tuple[float, Objective]] | None = None,
    seed: int = 0,
    **settings: object,
) -> Trainer:
    table = random_interactions()
    with isolated(seed, "modules"):
        recommender = Recommender(Embedding(table.num_users, table.num_items, dim=4), {"rank": Dot(4)})
    generators = {name: torch_generator(seed, name) for name in ("order", "negatives", "views")}
    batches = Batches(
        *(table, 16, generators["order"], generators["negatives"]),
        sampler=Uniform(table),
        views=generators["views"],
        distinct=True,
    )
    return Trainer(
        recommender=recommender,
        objectives=Objectives({"rank": (1.0, BPR()), "l2": (0.01, EgoL2()), **(extra or {})}),
        batches=batches,
        settings=TrainSettings(**{"max_epochs": 6, "patience": 6, "validate_every": 1, "lr": 0.05, **settings}),
        validate=lambda: validate(recommender),
        generators=generators,
        checkpoint=folder / "last.pt",
        trackers=[JsonLines(folder / "metrics.jsonl")],
    )


def scripted(values: list[float]) -> Callable[[Recommender], Mapping[str, float]]:
    """Validation that returns one prepared value after the other."""
    remaining = iter(values)
    return lambda _: {"ndcg@20": next(remaining)}


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_losses_fall_and_are_logged(tmp_path: Path) -> None:
    progress = make_trainer(tmp_path).fit()
    logged = records(tmp_path)
    assert [record["epoch"] for record in logged] == [1, 2, 3, 4, 5, 6]
    assert logged[-1]["losses"]["rank"] < logged[0]["losses"]["rank"]
    assert progress.stopped == "max_epochs"


def test_the_best_state_on_validation_is_what_remains(tmp_path: Path) -> None:
    seen = []

    def validate(recommender: Recommender) -> Mapping[str, float]:
        seen.append({key: value.clone() for key, value in recommender.state_dict().items()})
        return {"ndcg@20": [0.1, 0.3, 0.2, 0.3, 0.1, 0.0][len(seen) - 1]}

    trainer = make_trainer(tmp_path, validate=validate)
    progress = trainer.fit()
    assert (progress.best_epoch, progress.best_value) == (2, 0.3)  # of equals, the earlier
    for key, value in trainer.recommender.state_dict().items():
        assert torch.equal(value, seen[1][key])
    assert not torch.equal(seen[1]["encoder.users.weight"], seen[5]["encoder.users.weight"])


def test_patience_counts_epochs_without_a_rise(tmp_path: Path) -> None:
    values = [0.1, 0.3, 0.2, 0.3, 0.1, 0.0]
    progress = make_trainer(tmp_path, validate=scripted(values), patience=2, max_epochs=100).fit()
    assert (progress.epoch, progress.stopped) == (4, "patience")


def test_validation_follows_its_period_and_always_sees_the_last_epoch(tmp_path: Path) -> None:
    make_trainer(tmp_path, validate_every=4, max_epochs=6).fit()
    assert [record["epoch"] for record in records(tmp_path) if "validation" in record] == [4, 6]


def test_patience_is_looked_at_after_validations_only(tmp_path: Path) -> None:
    settings = {"validate_every": 5, "patience": 7, "max_epochs": 100}
    progress = make_trainer(tmp_path, validate=scripted([0.1, 0.1, 0.0, 0.0]), **settings).fit()
    assert (progress.epoch, progress.best_epoch) == (15, 5)  # 12 would stop between validations


def test_a_damaged_checkpoint_is_explained(tmp_path: Path) -> None:
    make_trainer(tmp_path).fit()
    path = tmp_path / "last.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingError, match=r"last\.pt: damaged; delete it to train from the start"):
        make_trainer(tmp_path).fit()


def test_a_checkpoint_of_parameters_in_another_order_is_refused(tmp_path: Path) -> None:
    """The optimiser's state is by position: users' moments would go to items, or, of other sizes, past their end."""
    make_trainer(tmp_path).fit()
    trainer = make_trainer(tmp_path)
    encoder = trainer.recommender.encoder
    encoder._modules = dict(reversed(encoder._modules.items()))
    with pytest.raises(TrainingError, match=r"last\.pt: of other parameters, or of these in another order"):
        trainer.fit()


def test_patience_below_the_validation_period_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"patience \(3\) is below validate_every \(5\)"):
        TrainSettings(patience=3, validate_every=5)


VIEWS = [
    ViewContrast(view=EdgeDrop(), against="all"),
    ViewContrast(view=NodeDrop()),
    ViewContrast(view=Noise()),
    LayerContrast(view=Noise()),
    ViewContrast(view=EdgeDrop(), every="epoch"),
    ViewContrast(view=RandomWalk(), against="all", every="epoch"),
    ViewContrast(view=RandomWalk()),
    ViewContrast(view=SVD(rank=2), anchors="shared", against="all"),
    LayerContrast(anchor=2, layer=0, against="all"),
    PrototypeContrast(clusters=3, warm_up=1, refresh=2),  # the E-steps are in epochs 2, 4 and 6
]


def on_a_graph(trainer: Trainer, **negatives: int) -> Trainer:
    """The same with LightGCN."""
    table = trainer.batches.train
    graph = BipartiteGraph.from_edges(table.user_indices, table.item_indices, table.num_users, table.num_items)
    with isolated(0, "modules"):
        encoder = LightGCN(table.num_users, table.num_items, dim=4, num_layers=2)
    recommender = Recommender(encoder, {"rank": Dot(4)}, graph=graph)
    batches = replace(trainer.batches, graph=graph, sampler=Uniform(table, **negatives))
    return replace(trainer, recommender=recommender, batches=batches)


class Killed(Exception):
    """Stands for a power cut."""


@pytest.mark.parametrize("checkpoint_every", [1, 2, 3])
@pytest.mark.parametrize("killed_in", [1, 3, 4, 6])
def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path: Path, checkpoint_every: int, killed_in: int) -> None:
    def norm(recommender: Recommender) -> Mapping[str, float]:
        return {"ndcg@20": -recommender.encoder.users.weight.norm().item()}

    validations = 0

    def killing(recommender: Recommender) -> Mapping[str, float]:
        nonlocal validations
        validations += 1
        if validations == killed_in:
            raise Killed
        return norm(recommender)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    reference = make_trainer(whole, validate=norm, checkpoint_every=checkpoint_every)
    expected = reference.fit()
    with pytest.raises(Killed):
        make_trainer(cut, validate=killing, checkpoint_every=checkpoint_every).fit()
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "los')  # the line that was being written
    resumed = make_trainer(cut, validate=norm, checkpoint_every=checkpoint_every)
    actual = resumed.fit()
    assert (actual.epoch, actual.best_epoch, actual.best_value) == (
        expected.epoch,
        expected.best_epoch,
        expected.best_value,
    )
    for key, value in reference.recommender.state_dict().items():
        assert torch.equal(value, resumed.recommender.state_dict()[key]), key
    without_seconds = [[{**r, "seconds": 0, "elapsed": 0} for r in records(folder)] for folder in (whole, cut)]
    assert without_seconds[0] == without_seconds[1]


def test_epochs_that_take_long_end_with_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killing(recommender: Recommender) -> Mapping[str, float]:
        raise Killed

    monkeypatch.setattr("recgraph.training.trainer.AT_RISK", 0.0)
    settings = {"checkpoint_every": 1000, "validate_every": 3, "patience": 3}
    with pytest.raises(Killed):
        make_trainer(tmp_path, validate=killing, **settings).fit()
    assert torch.load(tmp_path / "last.pt", weights_only=True)["progress"]["epoch"] == 2
    monkeypatch.undo()
    with pytest.raises(Killed):
        make_trainer(tmp_path / "quick", validate=killing, **settings).fit()
    assert not (tmp_path / "quick/last.pt").exists()


@pytest.mark.parametrize("ssl", VIEWS)
def test_views_go_on_where_a_killed_run_stopped(tmp_path: Path, ssl: Objective) -> None:
    validations = iter([0.0, 0.0, 0.0])

    def stop(_: Recommender) -> Mapping[str, float]:
        for value in validations:
            return {"ndcg@20": value}
        raise Killed  # in epoch 4; the checkpoint is of epoch 2

    def trainer(folder: str, **settings: object) -> Trainer:
        return on_a_graph(
            make_trainer(tmp_path / folder, extra={"ssl": (1.0, deepcopy(ssl))}, checkpoint_every=2, **settings)
        )

    whole, cut, resumed = trainer("whole"), trainer("cut", validate=stop), trainer("cut")
    whole.fit()
    with pytest.raises(Killed):
        cut.fit()
    resumed.fit()
    last, expected = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("cut", "whole"))
    for key, value in expected["recommender"].items():
        assert torch.equal(last["recommender"][key], value)
    assert records(tmp_path / "cut")[-1]["losses"] == records(tmp_path / "whole")[-1]["losses"]


def test_a_finished_training_is_only_read(tmp_path: Path) -> None:
    make_trainer(tmp_path, validate=scripted([0.1, 0.3, 0.2, 0.3, 0.1, 0.0])).fit()
    progress = make_trainer(tmp_path, validate=scripted([])).fit()
    assert (progress.epoch, progress.best_epoch) == (6, 2)


class Poison(Objective):
    """Turns to NaN at a given step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.steps = at, 0

    def forward(self, recommender: Recommender, batch: object, encoding: object) -> torch.Tensor:
        self.steps += 1
        return recommender.encoder.users.weight.sum() * (float("nan") if self.steps == self.at else 0.0)


def test_a_nan_names_objective_step_and_epoch_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    steps = len(make_trainer(tmp_path).batches)
    poison = {"bad": (1.0, Poison(at=2 * steps + 3))}
    trainer = make_trainer(tmp_path, extra=poison, checkpoint_every=1)
    with pytest.raises(TrainingError, match=r"objectives\.bad: the loss is not finite at step 3 of epoch 3.*last\.pt"):
        trainer.fit()
    kept = torch.load(tmp_path / "last.pt", weights_only=True)
    assert kept["progress"]["epoch"] == 2
    assert all(value.isfinite().all() for value in kept["recommender"].values())


def test_a_parameter_that_overflows_in_the_last_step_is_not_saved(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, checkpoint_every=1)

    def overflow(_: Recommender) -> Mapping[str, float]:
        raise AssertionError("must not be validated")

    trainer.recommender.encoder.items.weight.register_hook(lambda gradient: gradient * float("inf"))
    trainer = Trainer(**{**vars(trainer), "validate": lambda: overflow(trainer.recommender)})
    with pytest.raises(TrainingError, match="not finite"):
        trainer.fit()
    assert not (tmp_path / "last.pt").exists()


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    seen = []

    def watch(optimizer: torch.optim.Optimizer, *_: object) -> None:
        gradients = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
        seen.append(torch.cat(gradients).norm().item())

    handle = register_optimizer_step_pre_hook(watch)
    try:
        make_trainer(tmp_path, max_grad_norm=0.01, max_epochs=1).fit()
    finally:
        handle.remove()
    assert max(seen) <= 0.01 * 1.001


def test_training_leaves_global_randomness_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with isolated(0, "modules"):
        make_trainer(tmp_path).fit()
    assert torch.equal(torch.get_rng_state(), state)


class NoWaiting(TorchDispatchMode):
    """Refuses whatever would make the host wait for a GPU: reading a value, or a result whose size depends on values."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_consecutive", "equal", "bincount")

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        name = op.overloadpacket.__name__
        by_mask = name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1])
        by_count = name == "repeat_interleave" and (kwargs or {}).get("output_size") is None
        waits = name in self.WAITS or by_mask or by_count
        assert not waits, f"{op} waits for the GPU"
        return op(*args, **(kwargs or {}))


class Prepared:
    """One epoch of batches that were made before; whatever is done with them runs under `NoWaiting`."""

    def __init__(self, batches: Batches) -> None:
        self.batches = list(batches)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            with NoWaiting():
                yield batch


ONCE = {"max_epochs": 2, "patience": 2}


@pytest.mark.parametrize("negatives", [{"num": 1}, {"num": 5, "shared_by": 4}])
@pytest.mark.parametrize("settings", [{}, {"max_grad_norm": 1.0}, {"precision": "bf16"}, {"precision": "tf32"}])
@pytest.mark.parametrize("chunk", [8, None])
def test_a_step_never_waits_for_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, negatives: dict, settings: dict, chunk: int | None
) -> None:
    """On a GPU, the host must run ahead. There is none here, so what would stop it is looked for on the way down."""
    run_without_waiting(make_trainer(tmp_path, **ONCE, **settings), monkeypatch, chunk, **negatives)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("ssl", VIEWS)
@pytest.mark.parametrize("chunk", [8, None])
def test_a_step_with_views_never_waits_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ssl: Objective, precision: str, chunk: int | None
) -> None:
    trainer = make_trainer(tmp_path, extra={"ssl": (1.0, ssl)}, precision=precision, **ONCE)
    run_without_waiting(trainer, monkeypatch, chunk)


def run_without_waiting(trainer: Trainer, monkeypatch: pytest.MonkeyPatch, chunk: int | None, **negatives: int) -> None:
    if chunk is not None:
        monkeypatch.setattr(rows, "CHUNK_FLOATS", chunk)
    for method in ("tolist", "numpy", "cpu"):  # these do not pass through torch's dispatcher
        real = getattr(torch.Tensor, method)

        def checked(self: torch.Tensor, *args: object, real: Callable = real, **kwargs: object) -> object:
            assert not any(isinstance(mode, NoWaiting) for mode in _get_current_dispatch_mode_stack())
            return real(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, method, checked)
    trainer = on_a_graph(trainer, **negatives)
    trainer.objectives.begin_epoch(trainer.recommender, 1, trainer.generators["views"])
    trainer.objectives(trainer.recommender, next(iter(trainer.batches)))  # finds what is found once in a run
    replace(trainer, batches=Prepared(trainer.batches)).fit()


def test_the_watchdog_bites() -> None:
    flags, values = torch.tensor([True, False]), torch.arange(2)
    for waits in (lambda: values[1].item(), lambda: values[flags], lambda: bool(flags.any()), lambda: flags.nonzero()):
        with NoWaiting(), pytest.raises(AssertionError, match="waits for the GPU"):
            waits()


def test_every_step_in_bfloat16_uses_the_weights_of_its_own_step(tmp_path: Path) -> None:
    """Autocast remembers its copies of parameters."""

    class Spy(Objective):
        def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> torch.Tensor:
            weights = recommender.encoder.items.weight
            seen.append(torch.equal(torch.eye(len(weights)) @ weights, weights.bfloat16()))
            return 0 * encoding.items.sum()

    seen: list[bool] = []
    trainer = make_trainer(tmp_path, extra={"spy": (1.0, Spy())}, precision="bf16", **ONCE)
    trainer.fit()
    assert len(seen) == 2 * len(trainer.batches) > 4
    assert all(seen)


@pytest.mark.parametrize("objective", [BCE(), CCL(), BSL(), BPR()], ids=lambda one: type(one).__name__)
def test_many_shared_negatives_are_counted_and_summed_in_float32(objective: Objective) -> None:
    """A bfloat16 is as coarse as 2 between 256 and 512: of 400 counted one by one, half of them are lost."""
    with isolated(0, "test"):
        recommender = Recommender(Embedding(3, 900, dim=4, std=1.0), {"rank": Dot(4)})
    users, items = torch.arange(2), torch.tensor([0, 1])
    batch = Batch(Inputs(users), items, torch.arange(800).unsqueeze(0), (torch.arange(400),))
    losses = []
    for bf16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses.append(objective(recommender, batch, recommender.encoder(batch.inputs)).item())
    assert losses[1] == pytest.approx(losses[0], rel=0.01)


def test_many_positives_of_a_user_are_summed_in_float32() -> None:
    with isolated(0, "test"):
        recommender = Recommender(Embedding(2, 900, dim=4, std=1.0), {"rank": MLP(4, hidden=(4,))})
    items = torch.arange(900)
    batch, losses = Batch(Inputs(torch.zeros(900, dtype=torch.long)), items, items[:20].unsqueeze(0), (items[:0],)), []
    for bf16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses.append(BSL(by_user=True)(recommender, batch, recommender.encoder(batch.inputs)).item())
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_a_metric_that_validation_cannot_give_ends_training_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"train\.monitor: ndcg@20 is not a number at epoch 1"):
        make_trainer(tmp_path, validate=lambda _: {"ndcg@20": float("nan")}).fit()


def test_precision_holds_in_the_step_only(tmp_path: Path) -> None:
    class Spy(Objective):
        def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> torch.Tensor:
            product = encoding.query.flatten(end_dim=-2) @ encoding.items.T
            seen.append((product.dtype, torch.get_float32_matmul_precision()))
            return 0 * product.float().sum()

    def validate(recommender: Recommender) -> dict[str, float]:
        outside.append(
            (recommender.encode_all().query.mm(torch.ones(4, 1)).dtype, torch.get_float32_matmul_precision())
        )
        return {"ndcg@20": 0.0}

    before = torch.get_float32_matmul_precision()
    for precision, expected in (
        ("float32", (torch.float32, before)),
        ("tf32", (torch.float32, "high")),
        ("bf16", (torch.bfloat16, before)),
    ):
        seen: list[tuple] = []
        outside: list[tuple] = []
        folder = tmp_path / precision
        folder.mkdir()
        trainer = make_trainer(folder, validate=validate, extra={"spy": (1.0, Spy())}, precision=precision)
        trainer.fit()
        assert set(seen) == {expected}
        assert set(outside) == {(torch.float32, before)}
        assert all(parameter.dtype == torch.float32 for parameter in trainer.recommender.parameters())
    assert torch.get_float32_matmul_precision() == before
