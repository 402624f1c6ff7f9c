"""The log of a run survives kills, and the bar shows what it should, where somebody is looking."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from recgraph.training.trackers import JsonLines, ProgressBar, Record

NONE_YET = float("-inf")


def record(epoch: int, ndcg: float | None = None) -> Record:
    made: Record = {"epoch": epoch, "seconds": 1.25, "losses": {"rank": 0.6931, "l2": 0.0123}}
    return made if ndcg is None else {**made, "validation": {"ndcg@20": ndcg, "recall@20": 0.9}}


def lines(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("torn", ["", "{", '{"epoch": 6, "sec', '{"epoch": 6}'])
@pytest.mark.parametrize("kept", [0, 3, 5])
def test_resuming_forgets_later_and_torn_records(tmp_path: Path, kept: int, torn: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(record(epoch)) + "\n" for epoch in range(1, 6)) + torn)
    log = JsonLines(path)
    log.start(kept, 10, NONE_YET)
    assert lines(path) == [record(epoch) for epoch in range(1, kept + 1)]
    log.epoch(record(kept + 1, 0.5))
    log.finish()
    assert lines(path) == [*(record(epoch) for epoch in range(1, kept + 1)), record(kept + 1, 0.5)]


def test_a_record_is_on_disk_as_soon_as_its_epoch_is_done(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "metrics.jsonl")
    log.start(0, 10, NONE_YET)
    for epoch in range(1, 4):
        log.epoch(record(epoch))
        assert lines(tmp_path / "metrics.jsonl") == [record(done) for done in range(1, epoch + 1)]


def shown(
    monkeypatch: pytest.MonkeyPatch,
    values: list[float | None],
    *,
    start: int = 0,
    best: float = NONE_YET,
    title: str = "LightGCN",
    terminal: bool = True,
) -> str:
    """What a bar draws of epochs with these validation values."""
    monkeypatch.setenv("TERM", "xterm-256color")
    console = Console(file=StringIO(), force_terminal=terminal, color_system=None, width=200)
    bar = ProgressBar(title, "ndcg@20", console)
    bar.start(start, 10, best)
    for epoch, value in enumerate(values, start=start + 1):
        for step in range(1, 4):
            bar.step(step, 3)
        bar.epoch(record(epoch, value))
        bar.progress.refresh()
    bar.finish()
    return console.file.getvalue()


def test_a_log_gets_a_line_at_each_validation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(monkeypatch, [None, 0.25, None, 0.2], terminal=False).strip() == ""
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" · ")[1] for line in lines] == ["epoch 2 of 10", "epoch 4 of 10"]
    assert all(line.startswith("LightGCN · ") and line.endswith("best ndcg@20 0.2500") for line in lines)
    shown(monkeypatch, [0.25])
    assert capsys.readouterr().err == ""  # a terminal has the bar


def last(output: str) -> str:
    """The bar as it was last drawn."""
    return next(line for line in reversed(output.splitlines()) if "LightGCN" in line)


def test_the_bar_shows_losses_seconds_an_epoch_and_the_best_value(monkeypatch: pytest.MonkeyPatch) -> None:
    output = shown(monkeypatch, [0.25, None, 0.5, 0.125])
    for part in ("4/10", "rank 0.6931", "l2 0.0123", "1.25 s/epoch", "ndcg@20 0.5000"):
        assert part in last(output)
    assert "ndcg@20 0.2500" in output  # it was the best once
    assert "0.1250" not in output
    assert "3/3" in output  # batches


def test_there_is_no_best_before_the_first_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    output = shown(monkeypatch, [None, None])
    assert "rank 0.6931" in last(output)
    assert "ndcg@20" not in output
    assert "inf" not in output


def test_the_best_value_and_the_epoch_survive_a_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    output = shown(monkeypatch, [None, 0.25], start=4, best=0.75)
    assert "ndcg@20 0.7500" in last(output)
    assert "6/10" in last(output)
    assert "0.2500" not in output


def test_a_row_named_like_markup_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "LightGCN [no l2] [/]" in shown(monkeypatch, [0.5], title="LightGCN [no l2] [/]")


def test_nothing_is_drawn_where_nobody_is_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, [0.25, 0.5], terminal=False) == ""
