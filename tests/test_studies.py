"""Studies that processes share: each trial has one owner, a dead owner's trial is taken up, a database may be remote."""

from __future__ import annotations

import multiprocessing
import os
import re
import shlex
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml
from optuna.trial import TrialState
from test_coldstart import films  # noqa: F401  # a fixture

from recgraph.cli.common import assignment
from recgraph.errors import ConfigError
from recgraph.experiments.scheduling import Tasks
from recgraph.files import write_yaml
from recgraph.tuning.search import searches
from recgraph.tuning.studies import Options, Shared, flow
from recgraph.tuning.trials import tune

CPU = torch.device("cpu")


@pytest.fixture
def file(toy: Path) -> Path:
    toy.write_text(toy.read_text() + "search: {LightGCN: {train.lr: {log: [1.0e-3, 1.0e-1]}}}\n")
    return toy


def shared(file: Path, root: str = "runs", **changes: Any) -> Shared:
    (search,) = searches(file)
    options = replace(Options(Path(root), CPU, trials=3), **changes)
    return Shared(search, options, Tasks(CPU, sealed=True)(search.run))


def claim_and_die(file: Path) -> None:
    assert shared(file).claim() is not None
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_trial_has_one_owner_and_there_are_as_many_as_the_budget_says(file: Path) -> None:
    one, two = shared(file), shared(file)
    claims = [one.claim(), two.claim(), one.claim()]
    assert [claim[0].number for claim in claims if claim] == [0, 1, 2]
    assert one.claim() is None
    assert two.claim() is None


def test_the_trial_of_a_killed_process_is_taken_up_at_once_with_its_settings(file: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=claim_and_die, args=(file,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    study = shared(file)
    (left,) = study.summarise().trials
    assert left.state == TrialState.RUNNING
    claimed = study.claim()
    assert claimed is not None
    assert (claimed[0].number, claimed[0].params) == (0, left.params)
    following = shared(file).claim()  # the first has an owner again
    assert following is not None
    assert following[0].number == 1


def test_a_trial_that_is_finished_while_another_process_looks_is_not_done_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = shared(file), shared(file)
    claimed = one.claim()
    assert claimed is not None
    real = two._lock

    def late(number: int) -> Any:
        if number == 0:  # listed as running; now its owner finishes and lets go
            claimed[0].study.tell(claimed[0], 0.5)
            claimed[1].close()
        return real(number)

    monkeypatch.setattr(two, "_lock", late)
    following = two.claim()
    assert following is not None
    assert following[0].number == 1


def test_a_trial_that_was_killed_before_it_chose_chooses_what_it_would_have(file: Path) -> None:
    claimed = shared(file, "whole").claim()
    assert claimed is not None
    cut = shared(file, "cut")
    optuna.load_study(study_name=cut.name, storage=cut.storage).ask()
    again = cut.claim()
    assert again is not None
    assert (again[0].number, again[0].params) == (0, claimed[0].params)


def test_of_a_shared_database_only_trials_of_this_place_are_taken_up_unless_adopted(file: Path) -> None:
    url = f"sqlite:///{Path.cwd()}/shared.db"
    here, there = shared(file, "here", storage=url), shared(file, "there", storage=url)
    assert here.name == there.name
    claimed = there.claim()
    assert claimed is not None
    claimed[1].close()  # as if its process were dead
    place = here.summarise().unfinished[0]
    assert place == there.place
    mine = here.claim()
    assert mine is not None
    assert mine[0].number == 1
    adopting = shared(file, "here", storage=url, adopted=(place,)).claim()
    assert adopting is not None
    assert (adopting[0].number, adopting[0].params) == (0, claimed[0].params)
    assert here.summarise().unfinished == {0: here.place, 1: here.place}


def test_a_place_to_adopt_must_have_an_unfinished_trial(file: Path) -> None:
    url = f"sqlite:///{Path.cwd()}/shared.db"
    there = shared(file, "there", storage=url)
    claimed = there.claim()
    assert claimed is not None
    options = Options(Path("here"), CPU, trials=1, storage=url, adopted=(there.place + "x",))
    with pytest.raises(ConfigError, match=f"no unfinished trial .* Did you mean '{re.escape(there.place)}'"):
        tune(searches(file), options)
    with pytest.raises(ConfigError, match=r"no unfinished trial .* None are known"):
        tune(searches(file), replace(options, storage=""))


def test_a_trial_above_the_budget_is_not_done_and_does_not_count(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{Path.cwd()}/shared.db"
    here, there = (shared(file, root, storage=url, trials=1) for root in ("here", "there"))
    real = optuna.Study.ask

    def overtaken(study: optuna.Study, *arguments: Any) -> optuna.Trial:
        monkeypatch.setattr(optuna.Study, "ask", real)
        assert there.claim() is not None  # between the look and the ask of another machine
        return real(study, *arguments)

    monkeypatch.setattr(optuna.Study, "ask", overtaken)
    assert here.claim() is None
    assert [trial.number for trial in here.summarise().trials] == [0]
    more = shared(file, "here", storage=url, trials=2).claim()
    assert more is not None
    assert len(here.summarise().trials) == 2


def test_other_attributes_are_another_study_for_rows_that_read_them_alone(films: Path) -> None:  # noqa: F811
    films.write_text(
        films.read_text()
        + "search: {content_knn: {baseline.neighbours: [1, 2]}, popularity: {baseline: [popularity]}}\n"
    )

    def names() -> list[str]:
        return [
            Shared(search, Options(Path("runs"), CPU, trials=1), Tasks(CPU, sealed=True)(search.run)).name
            for search in searches(films)
        ]

    before = names()
    assert before[1] == searches(films)[1].study(Tasks(CPU)(searches(films)[1].run).fingerprint)  # as it always was
    table = films.parent / "data" / "raw" / "films" / "films.tsv"
    table.write_text(table.read_text().replace("a love story", "a moon story"))
    assert [one == other for one, other in zip(names(), before, strict=True)] == [False, True]


def test_a_storage_that_cannot_be_opened_is_an_error_for_people(file: Path) -> None:
    for url in ("nonsense", "nosuchdatabase://host/name", "sqlite:////no/such/folder/x.db"):
        with pytest.raises(ConfigError, match="--storage: cannot be opened"):
            shared(file, storage=url)


@pytest.mark.parametrize(
    "value", [1e-05, 0.1 + 0.2, 3, None, True, "true", "a b", [1, 2], {"name": "x", "rate": 1e-17, "of": [None, "no"]}]
)
def test_values_survive_yaml_and_the_command_line_to_the_bit(value: Any, tmp_path: Path) -> None:
    write_yaml(tmp_path / "value.yaml", {"value": value})
    assert yaml.safe_load((tmp_path / "value.yaml").read_text())["value"] == value
    (word,) = shlex.split(shlex.join([f"a.b={flow(value)}"]))
    assert assignment(word) == ("a.b", value)
    assert "\n" not in flow(value)
