"""NeuMF begins with the GMF and the MLP that other rows are, and with nothing that has seen what it is judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cases import count_epochs
from rich.console import Console
from torch import Tensor

from recgraph.encoders import LightGCN
from recgraph.errors import ConfigError
from recgraph.experiments import pretraining
from recgraph.experiments.experiment import Run, plan
from recgraph.experiments.running import Settings, execute
from recgraph.experiments.toy import smoke
from recgraph.models.model import Model
from recgraph.tuning.search import searches

FROZEN = {"train.lr": 1e-12}
"""A learning rate that leaves parameters as they were, up to rounding."""

LIGHTGCN = {"name": "lightgcn", "num_layers": 2}

ROWS: dict[str, dict[str, Any]] = {
    "GMF": {"encoder.dim": 4, "heads.rank": "gmf"},
    "MLP": {"encoder.dim": 6, "heads.rank": {"name": "mlp", "hidden": [6, 3]}},
    "NeuMF": {
        "encoder.dim": 10,
        "heads.rank": {"name": "neumf", "gmf_dim": 4, "hidden": [6, 3]},
        "pretrained": {"gmf": "GMF", "mlp": "MLP"},
        **FROZEN,
    },
    "popularity": {"baseline": "popularity"},
}


@pytest.fixture
def file(toy: Path) -> Path:
    """`toy`, with NeuMF and what it begins with."""
    edit(toy, lambda tree: tree.update(rows=ROWS))
    edit(toy, lambda tree: tree["base"].update(objectives={"rank": "bce"}, encoder="embedding"))
    edit(toy, lambda tree: tree["base"]["train"].update(max_epochs=4, patience=4))
    return toy


def edit(file: Path, change: Callable[[Any], None]) -> None:
    tree = yaml.safe_load(file.read_text())
    change(tree)
    file.write_text(yaml.safe_dump(tree))


def run_of(file: Path, row: str, **changes: Any) -> Run:
    (run,) = plan(file, rows=[row], seeds=[0], overrides=changes)
    return run


def do(run: Run, root: str = "runs") -> Mapping[str, Any]:
    return execute(run, Path(root), settings=Settings(torch.device("cpu")), console=Console(quiet=True))


def scores(run: Run, root: str = "runs") -> Tensor:
    with torch.no_grad():
        return Model.load(run.folder(Path(root))).scorer()(torch.arange(60))


@pytest.mark.parametrize("encoder", ["embedding", LIGHTGCN], ids=["embedding", "lightgcn"])
@pytest.mark.parametrize("refit", [False, True])
def test_the_first_scores_are_the_mean_of_both_rows(file: Path, encoder: Any, refit: bool) -> None:
    edit(file, lambda tree: tree["base"].update(encoder=encoder, refit=refit))
    runs = {row: run_of(file, row) for row in ("GMF", "MLP", "NeuMF")}
    for run in runs.values():
        do(run)
    torch.testing.assert_close(scores(runs["NeuMF"]), (scores(runs["GMF"]) + scores(runs["MLP"])) / 2)


def test_what_validation_chooses_has_not_begun_with_validation(file: Path) -> None:
    """The rows are fitted on validation at their end: NeuMF must be validated from what they were before."""
    results = []
    for refit in (False, True):
        edit(file, lambda tree, refit=refit: tree["base"].update(refit=refit))
        results += [[do(run_of(file, row)) for row in ("GMF", "MLP", "NeuMF")][-1]]
    assert results[0]["validation"] == results[1]["validation"]
    assert results[0]["test"] != results[1]["test"]


@pytest.mark.parametrize("refit", [False, True])
def test_a_finished_row_is_taken_over_and_gives_the_same_as_training_it_again(
    file: Path, refit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(file, lambda tree: tree["base"].update(refit=refit))
    edit(file, lambda tree: tree["rows"]["NeuMF"].update({"train.lr": 0.01}))
    run = run_of(file, "NeuMF")
    for row in ("GMF", "MLP"):
        do(run_of(file, row))
    trained = count_epochs(monkeypatch)
    after = do(run)
    mine = len(trained)
    assert mine <= 4 * (1 + refit)  # its own epochs, and no others
    alone = do(run, "elsewhere")
    assert len(trained) > 2 * mine
    assert {key: alone[key] for key in ("validation", "test")} == {key: after[key] for key in ("validation", "test")}
    assert torch.equal(scores(run), scores(run, "elsewhere"))


def test_a_row_of_other_code_is_not_taken_over(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for row in ("GMF", "MLP"):
        folder = run_of(file, row).folder(Path("runs"))
        do(run_of(file, row))
        result = (folder / "result.json").read_text()
        (folder / "result.json").write_text(result.replace('"code": "', '"code": "0'))
    trained = count_epochs(monkeypatch)
    do(run_of(file, "NeuMF"))
    assert len(trained) == 12


@pytest.mark.parametrize("kill_at", [2, 6, 10])
def test_a_run_that_is_killed_goes_on_to_the_same_end(
    file: Path, kill_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(file, lambda tree: tree["rows"]["NeuMF"].update({"train.lr": 0.01}))
    edit(file, lambda tree: tree["base"]["train"].update(checkpoint_every=1))
    run = run_of(file, "NeuMF")
    do(run, "unbroken")
    with monkeypatch.context() as patch:
        count_epochs(patch, kill_at=kill_at)
        with pytest.raises(KeyboardInterrupt):
            do(run)
    trained = count_epochs(monkeypatch)
    do(run)
    assert len(trained) == 12 - kill_at
    assert torch.equal(scores(run), scores(run, "unbroken"))


def test_seconds_hold_those_of_what_came_before(file: Path) -> None:
    rows = [do(run_of(file, row))["train_seconds"] for row in ("GMF", "MLP", "NeuMF")]
    assert rows[2] >= rows[0] + rows[1]


def test_the_configuration_holds_the_rows_and_its_hash_is_of_them_too(file: Path) -> None:
    before = {row: run_of(file, row) for row in ROWS}
    assert {part: run.config for part, run in before["NeuMF"].sources.items()} == {
        "gmf": before["GMF"].config,
        "mlp": before["MLP"].config,
    }
    assert "pretrained" not in before["GMF"].config  # hashes of what has none are what they were
    edit(file, lambda tree: tree["rows"]["GMF"].update({"train.lr": 0.5}))
    after = {row: run_of(file, row).config_hash for row in ROWS}
    assert [row for row in ROWS if after[row] != before[row].config_hash] == ["GMF", "NeuMF"]


def test_what_a_command_changes_reaches_the_rows_so_that_nothing_can_be_searched(file: Path) -> None:
    run = run_of(file, "NeuMF", **{"train.batch_size": 7})
    assert {source.config["train"]["batch_size"] for source in run.sources.values()} == {7}
    assert run.sources["mlp"].config_hash == run_of(file, "MLP", **{"train.batch_size": 7}).config_hash
    short = smoke(run)
    assert {source.config["train"]["max_epochs"] for source in (short, *short.sources.values())} == {2}
    edit(file, lambda tree: tree.update(search={"NeuMF": {"train.batch_size": [7, 8]}}))
    with pytest.raises(
        ConfigError, match=r"search\.NeuMF: the row begins with GMF, MLP, which its settings would change"
    ):
        searches(file)


@pytest.mark.parametrize(
    ("row", "changes", "message"),
    [
        ("NeuMF", {"pretrained": {"gmf": "GMF", "mlp": "MPL"}}, r"pretrained\.mlp: no row 'MPL'\. Did you mean 'MLP'"),
        ("NeuMF", {"pretrained": {"gmf": "GMF"}}, "begins with rows for gmf and mlp; .* with rows for gmf"),
        ("NeuMF", {"pretrained": {"gmf": "MLP", "mlp": "GMF"}}, r"pretrained\.gmf: expected a row with head gmf"),
        ("NeuMF", {"pretrained": {"gmf": "popularity", "mlp": "MLP"}}, "a row that is trained from random values"),
        ("NeuMF", {"pretrained": {"gmf": "NeuMF", "mlp": "MLP"}}, "a row that is trained from random values"),
        ("GMF", {"pretrained": {"gmf": "GMF", "mlp": "MLP"}}, "the head here is gmf"),
        ("MLP", {"encoder.dim": 5}, r"pretrained\.mlp: expected a row with head mlp whose widths are"),
        ("MLP", {"heads.rank.hidden": [6, 4]}, r"pretrained\.mlp: expected a row with head mlp whose widths are"),
        ("GMF", {"encoder.std": 0.7}, r"pretrained\.gmf: its encoder is .*0\.7"),
        ("popularity", {"pretrained": {"gmf": "GMF", "mlp": "MLP"}}, "pretrained does nothing here"),
    ],
)
def test_what_cannot_be_its_beginning_is_refused_before_training(
    file: Path, row: str, changes: dict[str, Any], message: str
) -> None:
    edit(file, lambda tree: tree["rows"][row].update(changes))
    with pytest.raises(ConfigError, match=message):
        plan(file)


def test_an_encoder_with_more_than_tables_is_refused() -> None:
    encoder = LightGCN(5, 7, dim=4)
    pretraining.check_tables(encoder, "row")
    encoder.register_parameter("gate", torch.nn.Parameter(torch.zeros(4)))
    with pytest.raises(ConfigError, match=r"row: pretrained: LightGCN has gate, users\.weight, items\.weight"):
        pretraining.check_tables(encoder, "row")


@pytest.mark.parametrize("refit", [False, True])
def test_what_a_blended_row_begins_with_is_not_blended(file: Path, refit: bool) -> None:
    blended = do(run_of(file, "NeuMF", blend={"baseline": "ease", "weight": 0.0}, refit=refit), "one")
    plain = do(run_of(file, "NeuMF", refit=refit), "two")
    assert blended["test"] == plain["test"]  # at a weight of 0, that of the baseline
