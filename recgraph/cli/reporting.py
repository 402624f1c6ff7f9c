"""The command that makes the HTML report: report."""

from __future__ import annotations

from pathlib import Path

from recgraph.cli.common import app, assignments, say
from recgraph.errors import ConfigError
from recgraph.files import write_text
from recgraph.reporting.report import collect, write

EXPERIMENTS = Path("experiments")


@app.command
def report(*arguments: str, runs: Path = Path("runs"), to: Path = Path("report.html")) -> None:
    """Write one HTML page about one or all tables: results, charts, settings, and the code and machines of the runs.

    The page is self-contained and works offline. Nothing is trained; results of other code versions are shown and
    flagged.

    Args:
        arguments: experiment files, such as experiments/ml100k.yaml; by default all files of the folder experiments
            that have finished runs. If the runs were made with overrides, also these, by dotted path, such as
            train.max_epochs=20; they apply to all files.
        runs: folder of all runs.
        to: file to write.
    """
    files = [Path(text) for text in arguments if _is_file(text)]
    overrides = assignments([text for text in arguments if not _is_file(text)])
    ran = [file for file in sorted(EXPERIMENTS.glob("*.yaml")) if (runs / file.stem).is_dir()]
    studies = [collect(file, runs, overrides) for file in files or ran]
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


def _is_file(argument: str) -> bool:
    """Whether an argument is an experiment file, and not an override; names of files may have equals signs."""
    return "=" not in argument or Path(argument).is_file()
