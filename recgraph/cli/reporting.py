"""The command that shows what there is: report."""

from __future__ import annotations

from pathlib import Path

from recgraph.cli.common import app, assignment, say
from recgraph.errors import ConfigError
from recgraph.files import write_text
from recgraph.reporting.report import collect, write

EXPERIMENTS = Path("experiments")


@app.command
def report(*arguments: str, runs: Path = Path("runs"), to: Path = Path("report.html")) -> None:
    """Make one page of HTML of a table, or of all that there are runs of: figures, charts, and what they come from.

    The page needs no network and no other file. Nothing is run; results of other code are shown, and flagged.

    Args:
        arguments: experiment files, such as experiments/ml100k.yaml; without any, those of the folder experiments that
            have finished runs. Then settings by dotted path, such as train.max_epochs=20, if the runs were made with
            some; they go for all files.
        runs: folder that holds a folder for every run.
        to: the file to write.
    """
    files = [Path(text) for text in arguments if "=" not in text]
    overrides = dict(assignment(text) for text in arguments if "=" in text)
    studies = [collect(file, runs, overrides) for file in files or sorted(EXPERIMENTS.glob("*.yaml"))]
    for study in studies:
        if files and not study.runs:
            others = f", only {study.others} of other settings (see `report --help`)" if study.others else ""
            raise ConfigError(f"{study.file}: no finished runs of it in {runs}{others}")
    shown = [study for study in studies if study.runs]
    if not shown:
        raise ConfigError(f"no finished runs in {runs} of any file in {EXPERIMENTS.resolve()}; name the files")
    write_text(to, write(shown))
    for study in shown:
        say(f"{study.file}: {len(study.runs)} runs")
    say(f"Wrote {to}.")
