"""What the documents tell people to type works, and what they point to is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import polars as pl
import pytest
import yaml
from cases import graph_of, random_interactions

from recgraph import cli
from recgraph.experiments.experiment import plan
from recgraph.models.model import catalogue_of
from recgraph.models.recommender import Recommender
from recgraph.random import isolated

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "experiments/README.md", "datasets/README.md"]
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+:|#)(?P<target>[^)#\s]+)")


def blocks(language: str, document: str = "README.md") -> list[str]:
    """Code blocks of a language, each preceded by empty lines, so that errors name lines of the document."""
    path = ROOT / document
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    found = (match for match in BLOCK.finditer(text) if match["language"] == language)
    return ["\n" * text.count("\n", 0, match.start("code")) + match["code"] for match in found]


def commands(program: str) -> list[object]:
    """Lines of bash blocks that call a program, as tokens."""
    found = [
        (document, shlex.split(line, comments=True))
        for document in DOCUMENTS
        for block in blocks("bash", document)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [
        pytest.param(tokens[1:], id=f"{document}: {' '.join(tokens)}")
        for document, tokens in found
        if tokens[:1] == [program]
    ]


def snippets() -> list[object]:
    """The Python blocks of README."""
    return [
        pytest.param(
            block,
            id=f"line {block.count(chr(10)) - block.lstrip().count(chr(10)) + 1}",
            marks=[pytest.mark.dgl] if "dgl" in block else [],
        )
        for block in blocks("python")
    ]


def test_readme_shows_how_to_use_an_encoder() -> None:
    assert any(re.search(r"^(from|import) .*\bLightGCN\b", block, re.MULTILINE) for block in blocks("python"))


@pytest.mark.parametrize("code", snippets())
def test_a_snippet_runs_on_its_own(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "dgl" in code:
        monkeypatch.setenv("DGLBACKEND", "pytorch")  # without it, DGL writes to the home directory
        pytest.importorskip("dgl")
    monkeypatch.chdir(tmp_path)
    for folder in re.findall(r"""["'](runs/[^"']+)["']""", code):
        save_model(Path(folder))
    with isolated(0, "readme"):
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def save_model(folder: Path) -> None:
    """A model of the kind that a run leaves, whose users include 42."""
    table = random_interactions(num_users=50)
    spec = {"encoder": {"name": "lightgcn", "dim": 4}, "heads": {"rank": "dot"}}
    with isolated(0, "modules"):
        model = Recommender.build(table.num_users, table.num_items, spec, graph_of(table))
    model.catalogue = catalogue_of(table, [table], None)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder)


@pytest.mark.parametrize("tokens", commands("recgraph"))
def test_a_command_exists_and_takes_these_arguments(tokens: list[str]) -> None:
    command, bound, *_ = cli.app.parse_args(tokens, exit_on_error=False, print_error=False)
    assert command.__module__.startswith("recgraph.cli."), "no such command"
    if command in (cli.runs.train, cli.runs.table):  # a row or an address that is not there raises
        options = bound.arguments
        rows, overrides = options.get("rows", ""), dict(text.split("=") for text in options.get("overrides", ()))
        values = {address: yaml.safe_load(value) for address, value in overrides.items()}
        assert plan(ROOT / options["file"], rows=rows.split(",") if rows else (), overrides=values)


@pytest.mark.parametrize("tokens", commands("bash"))
def test_a_script_is_there(tokens: list[str]) -> None:
    assert (ROOT / tokens[0]).is_file()


@pytest.mark.parametrize("text", [block for block in blocks("yaml") if "base:" in block])
def test_an_experiment_in_readme_is_valid(text: str, tmp_path: Path) -> None:
    tree = {"datasets": ["ml-100k"], "seeds": [0], "rows": {"row": {}}} | yaml.safe_load(text)
    (tmp_path / "example.yaml").write_text(yaml.safe_dump(tree))
    assert plan(tmp_path / "example.yaml")


def test_every_run_of_a_table_is_in_its_results_or_said_not_to_be() -> None:
    text = (ROOT / "experiments/README.md").read_text(encoding="utf-8")
    said = set(re.findall(r"`(\w+)\.yaml`", text.partition("| file | seeds run | not run |")[2].partition("\n\n")[0]))
    said.add("new_films")  # of which there is no table
    for path in sorted((ROOT / "experiments").glob("*.yaml")):
        if path.stem in said:
            continue
        results = pl.read_csv(path.parent / f"results/{path.stem}.csv", infer_schema=False)
        ran = set(results.select("row", "dataset", "seed").iter_rows())
        missing = {(run.row, run.dataset, str(run.seed)) for run in plan(path)} - ran
        assert not missing, f"{path.name}: list it in experiments/README.md, or run {missing}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files(document: str) -> None:
    path = ROOT / document
    targets = [match["target"] for match in LINK.finditer(path.read_text(encoding="utf-8"))]
    assert [target for target in targets if not (path.parent / target).exists()] == []
