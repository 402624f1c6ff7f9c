"""The page says what the results say, of what can be compared, needs nothing else, and trusts no name."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
import yaml
from rich.console import Console
from test_sampled import oneout  # noqa: F401  # a fixture

from recgraph import cli
from recgraph.errors import DataError
from recgraph.experiments.experiment import plan
from recgraph.experiments.running import Settings
from recgraph.experiments.scheduling import do
from recgraph.reporting.report import collect, write

VOID = {"meta", "br"}
NASTY = "<script>alert(1)</script> & \"quoted\" 'name'"


class Page(HTMLParser):
    """Tables by caption or label, links and texts of a page; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self.bold: list[str] = []
        self.text = ""
        self.label = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "div" and dict(attrs).get("role") == "region":
            self.label = str(dict(attrs)["aria-label"])
            self.tables[self.label] = []
        if tag == "tr":
            self.tables[self.label].append([])
        if tag in ("td", "th"):
            self.tables[self.label][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if self.open and {"td", "th"} & set(self.open):
            self.tables[self.label][-1][-1] += data
        if "strong" in self.open:
            self.bold.append(data)


@pytest.fixture
def ran(toy: Path) -> Path:
    """The toy table, compared with popularity, with an ill-named row; all runs are done."""
    tree = yaml.safe_load(toy.read_text())
    tree["rows"][NASTY] = {"encoder.num_layers": 1}
    tree |= {"against": "popularity", "source": "https://example.org/<paper>"}
    tree["base"]["train"] |= {"max_epochs": 4, "patience": 4}
    toy.write_text("# A toy & its <rows>.\n" + yaml.safe_dump(tree, sort_keys=False))
    outcomes = do(plan(toy), Path("runs"), settings=Settings(torch.device("cpu")), console=Console(quiet=True))
    assert not [one.error for one in outcomes if one.error]
    return toy


def results(row: str) -> list[tuple[dict, Path]]:
    found = [(json.loads(path.read_text()), path.parent) for path in Path("runs").rglob("result.json")]
    return sorted([pair for pair in found if pair[0]["row"] == row], key=lambda pair: pair[0]["seed"])


def test_figures_are_those_of_the_results(ran: Path) -> None:
    page = Page(write([collect(ran, Path("runs"))]))
    (main,) = [rows for label, rows in page.tables.items() if label.startswith("toy, split")]
    assert [row[0] for row in main[1:]] == ["popularity", "BPR-MF", "LightGCN", NASTY]
    column = main[0].index("ndcg@10")
    for row in main[1:]:
        values = [result["test"]["ndcg@10"] for result, _ in results(row[0])]
        assert row[column].rstrip("†‡") == f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"
    means = {row[0]: float(row[column][:6]) for row in main[1:]}
    assert f"{max(means.values()):.4f}" in {text[:6] for text in page.bold}


def test_data_of_the_charts_are_those_of_the_runs(ran: Path) -> None:
    page = Page(write([collect(ran, Path("runs"))]))
    cost = page.tables["Data: Accuracy and time: ndcg@10 on test"]
    assert cost[0] == ["row", "seed", "train_seconds", "ndcg@10"]
    assert len(cost) == 1 + 4 * 2
    for row, seed, seconds, ndcg in cost[1:]:
        result = results(row)[int(seed)][0]
        assert (float(seconds), float(ndcg)) == (result["train_seconds"], result["test"]["ndcg@10"])
    learning = {(row, epoch): rest for row, epoch, *rest in page.tables["Data: Learning: ndcg@10 on validation"][1:]}
    assert {row for row, _ in learning} == {"popularity", "BPR-MF", "LightGCN", NASTY}
    logs = [(folder / "metrics.jsonl").read_text().splitlines() for _, folder in results("LightGCN")]
    values = [json.loads(log[3])["validation"]["ndcg@10"] for log in logs]
    assert list(map(float, learning["LightGCN", "4"])) == pytest.approx(
        [statistics.mean(values), min(values), max(values)], rel=1e-5
    )
    head, *lying = page.tables["toy, how the vectors lie"]
    assert [row[0] for row in lying] == ["BPR-MF", "LightGCN", NASTY]
    ranks = [one["diagnostics"]["item_effective_rank"] for one, _ in results("LightGCN")]
    assert float(lying[1][head.index("item effective rank")]) == pytest.approx(statistics.mean(ranks), abs=1e-3)
    groups = {(row, group): value for row, group, value in page.tables["Data: Groups of items, by popularity"][1:]}
    heads = [result["groups"]["head"]["ndcg@10"] for result, _ in results("BPR-MF")]
    assert float(groups["BPR-MF", "head"]) == pytest.approx(statistics.mean(heads))
    effect = {line[0]: line[1:] for line in page.tables["Data: Effect on ndcg@10: differences from popularity"]}
    gain = [statistics.mean(r["test"]["ndcg@10"] for r, _ in results(row)) for row in ("LightGCN", "popularity")]
    assert float(effect["LightGCN"][0]) == pytest.approx(gain[0] - gain[1])


def test_charts_are_drawn_from_their_data(ran: Path) -> None:
    text = write([collect(ran, Path("runs"))])
    titles = {unescape(title) for title in re.findall(r"<title>(.*?)</title>", text)}
    tables = Page(text).tables
    for row, _, seconds, ndcg in tables["Data: Accuracy and time: ndcg@10 on test"][1:]:
        assert f"{row}, {max(0.01, float(seconds)):g} s: {float(ndcg):.4f}" in titles
    for row, group, ndcg in tables["Data: Groups of items, by popularity"][1:]:
        assert f"{row}, {group}: {float(ndcg):.4f}" in titles
    for row, *figures, _ in tables["Data: Effect on ndcg@10: differences from popularity"][1:]:
        value, low, high = map(float, figures)
        assert f"{row}: {value:+.4f}, {low:+.4f} to {high:+.4f}" in titles
    epochs = [line for line in tables["Data: Learning: ndcg@10 on validation"][1:] if line[1]]
    drawn = [f"{row}, {epoch}: {float(mean):.4g}" in titles for row, epoch, mean, *_ in epochs]
    assert all(drawn)  # of so few epochs each has a marker


def test_the_csv_of_a_chart_is_its_table(ran: Path) -> None:
    page = Page(write([collect(ran, Path("runs"))]))
    links = [value for tag, name, value in page.attributes if tag == "a" and name == "href"]
    data = [rows for label, rows in page.tables.items() if label.startswith("Data: ")]
    assert len(links) == len(data) >= 7
    for link, rows in zip(links, data, strict=True):
        kind, _, text = link.partition(",")
        assert kind == "data:text/csv;charset=utf-8"
        assert list(csv.reader(io.StringIO(unquote(text)))) == rows


def test_the_page_needs_nothing_else_and_trusts_no_name(ran: Path) -> None:
    text = write([collect(ran, Path("runs")), collect(ran, Path("runs"))])
    page = Page(text)
    tags = {tag for tag, _, _ in page.attributes}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert "<script" not in text
    assert not re.search(r"@import|url\(", text)
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("href", "src", "srcset", "action", "xlink:href"):
            assert (tag, name) == ("a", "href")
            assert value.startswith(("data:text/csv", "#"))
    assert NASTY in page.text
    assert "A toy & its <rows>." in page.text
    assert "https://example.org/<paper>" in page.text


def test_a_row_has_one_colour_and_marker_in_the_whole_page(ran: Path) -> None:
    text = write([collect(ran, Path("runs"))])
    drawn = set(re.findall(r'aria-hidden="true"><path class="mark (c\d)"[^>]*d="([^"]*)"></path></svg>LightGCN<', text))
    assert len(drawn) == 1
    ((colour, _),) = drawn
    lines = re.findall(r'class="(?:line|bar) (c\d)"[^>]*><title>LightGCN[<,]', text)
    assert len(lines) > 3
    assert set(lines) == {colour}


def test_several_tables_have_contents_and_ids_of_their_own(ran: Path) -> None:
    other = ran.with_name("second.yaml")
    other.write_text(ran.read_text())
    Path("runs/second").symlink_to(Path("runs/toy").resolve())
    page = Page(write([collect(ran, Path("runs")), collect(other, Path("runs"))]))
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = [value for _, name, value in page.attributes if name == "href" and value.startswith("#")]
    assert [target[1:] for target in targets] == [one for one in ids if one.startswith("s")]
    assert "Contents" in page.text
    assert "Contents" not in Page(write([collect(ran, Path("runs"))])).text


def test_runs_without_curves_groups_or_machine_are_shown(toy: Path) -> None:
    runs = plan(toy, rows=["popularity"], seeds=[0])
    (outcome,) = do(runs, Path("runs"), settings=Settings(torch.device("cpu")), console=Console(quiet=True))
    (outcome.folder / "env.json").unlink()
    del outcome.result["groups"]
    (outcome.folder / "result.json").write_text(json.dumps(outcome.result))
    page = Page(write([collect(toy, Path("runs"))]))
    assert [label for label in page.tables if label.startswith("Data: ")] == [
        "Data: Accuracy and time: ndcg@10 on test"
    ]
    assert "Not finished: toy, seeds 1: popularity; toy, seeds 0, 1: BPR-MF, LightGCN." in page.text


def test_a_seed_without_a_curve_leaves_its_row_out_of_those(ran: Path) -> None:
    (results("LightGCN")[0][1] / "metrics.jsonl").unlink()
    curves = Page(write([collect(ran, Path("runs"))])).tables["Data: Loss: rank"]
    assert "BPR-MF" in {row[0] for row in curves}
    assert "LightGCN" not in {row[0] for row in curves}


def test_of_planned_runs_no_other_seeds_are_shown(ran: Path) -> None:
    study = collect(ran, Path("runs"), planned=plan(ran, rows=["LightGCN", "popularity"], seeds=[1]))
    assert [(one.result["row"], one.result["seed"]) for one in study.runs] == [("LightGCN", 1), ("popularity", 1)]
    assert study.others == 4  # the other two rows; seed 0 of these is of the same settings
    assert not study.missing


@pytest.mark.parametrize("name", ["env.json", "metrics.jsonl", "per_user.parquet", "result.json"])
def test_a_damaged_file_is_named(ran: Path, name: str) -> None:
    _, folder = results("LightGCN")[1]
    (folder / name).write_bytes(b"{}" if name == "result.json" else (folder / name).read_bytes()[:60])
    with pytest.raises(DataError, match=rf"{re.escape(str(folder / name))}: damaged: .*; delete "):
        write([collect(ran, Path("runs"))])


def test_a_metric_that_groups_lack_is_replaced_in_their_charts(ran: Path) -> None:
    for row in ("popularity", "BPR-MF", "LightGCN", NASTY):
        for one, folder in results(row):
            for found in one["groups"].values():
                found.pop("ndcg@10", None)
            (folder / "result.json").write_text(json.dumps(one))
    tables = Page(write([collect(ran, Path("runs"))])).tables
    (label,) = [label for label in tables if label.startswith("Data: Groups of users")]
    assert tables[label][0][-1] == "recall@10"
    assert any("recall@10 by group" in label for label in tables)


def test_sampled_figures_have_the_curve_of_their_whole_catalogue(oneout: Path) -> None:  # noqa: F811
    do(plan(oneout), Path("runs"), settings=Settings(torch.device("cpu")), console=Console(quiet=True))
    tables = Page(write([collect(oneout, Path("runs"))])).tables
    (log,) = Path("runs/oneout/BPR-MF").rglob("metrics.jsonl")
    epochs = [json.loads(line) for line in log.read_text().splitlines()]
    drawn = [line for line in tables["Data: Learning: ndcg@10 on validation"] if line[0] == "BPR-MF"]
    assert [(int(line[1]), float(line[2])) for line in drawn] == [
        (one["epoch"], pytest.approx(one["validation"]["ndcg@10"], rel=1e-5)) for one in epochs if "validation" in one
    ]
    assert "Data: Accuracy and time: hit@3:sampled-9 on test" in tables


def test_a_table_without_curves_is_shown(ran: Path) -> None:
    for path in Path("runs").rglob("seed-0/metrics.jsonl"):
        path.unlink()
    assert not [label for label in Page(write([collect(ran, Path("runs"))])).tables if label.startswith("Data: Loss")]


def test_other_code_and_other_settings_are_flagged(ran: Path) -> None:
    assert "Of other code" not in write([collect(ran, Path("runs"))])
    changed, folder = results("LightGCN")[0]
    (folder / "result.json").write_text(json.dumps(changed | {"code": f"{changed['code']}+0ther"}))
    text = Page(write([collect(ran, Path("runs"))])).text
    assert "1 of 8 runs." in text  # with another package, which this one does not name
    assert "Not all runs are of the same code." in text  # of one row
    (folder / "result.json").write_text(json.dumps(changed | {"code": "0ther"}))
    text = Page(write([collect(ran, Path("runs"))])).text
    assert "1 of 8 runs." in text
    assert "Not all runs are of the same code." in text
    study = collect(ran, Path("runs"), {"encoder.dim": 4})
    assert {one.result["row"] for one in study.runs} == {"popularity"}
    assert study.others == 6


def test_runs_from_before_a_setting_are_of_other_settings(ran: Path) -> None:
    ran.write_text(ran.read_text().replace("base:\n", "base:\n  sharing: mmoe\n", 1))
    study = collect(ran, Path("runs"))
    assert {one.result["row"] for one in study.runs} == {"popularity"}
    assert study.others == 6


def test_what_was_moved_aside_is_not_shown(ran: Path) -> None:
    _, folder = results("BPR-MF")[0]
    aside = folder.with_name("seed-0.old-1")
    aside.mkdir()
    (aside / "result.json").write_text((folder / "result.json").read_text())
    study = collect(ran, Path("runs"))
    assert len(study.runs) == 8
    assert study.others == 0


def run(*arguments: str) -> int:
    """The exit code of the command."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["report", *arguments])
    return int(stopped.value.code or 0)


def test_the_command_writes_a_page(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(ran), "--to", "page.html") == 0
    assert "8 runs" in capsys.readouterr().out
    Page(Path("page.html").read_text())
    Path("experiments").mkdir()
    Path("experiments/draft.yaml").write_text("seeds: [")  # invalid, and without runs
    ran.rename(Path("experiments") / ran.name)
    assert run() == 0
    assert run(str(Path("experiments/toy.yaml").rename("experiments/lr=1 toy.yaml"))) == 1  # a file without runs
    assert "lr=1 toy.yaml: no finished runs of it" in capsys.readouterr().err
    Path("experiments/lr=1 toy.yaml").rename("experiments/toy.yaml")
    assert Path("report.html").is_file()
    for arguments in (["experiments/toy.yaml", "--runs", "none"], ["--runs", "none"], ["experiments/to.yaml"]):
        assert run(*arguments) == 1
        assert "error:" in capsys.readouterr().err
