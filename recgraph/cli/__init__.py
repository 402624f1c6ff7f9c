"""The command line: every command is a documented function in one of these files."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence

from rich.logging import RichHandler
from rich.markup import escape

from recgraph.cli import data, models, reporting, runs, tuning
from recgraph.cli.common import app, errors, one_run
from recgraph.errors import RecgraphError

__all__ = ["app", "data", "main", "models", "reporting", "runs", "tuning"]


INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as in shells."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors that the user can fix are printed without a traceback."""
    # Show the library's warnings, such as a resume by other code, on the terminal.
    logging.basicConfig(format="%(message)s", handlers=[RichHandler(console=errors, show_time=False, show_path=False)])
    for stream in (sys.stdout, sys.stderr):  # a terminal of few characters must not end hours of work
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if tokens[:1] and tokens[0] in ("evaluate", "recommend", "explain", "export"):
            one_run(tokens[1:])
        app(tokens)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:  # newer versions of cyclopts make one of Ctrl-C
            raise
        resumes = tokens[:1] and tokens[0] in ("train", "table", "ablate", "tune")
        errors.print("stopped" + ("; the same command goes on from the last checkpoint" if resumes else ""))
        sys.exit(INTERRUPTED)
    except (RecgraphError, OSError) as error:
        if isinstance(error, OSError) and error.filename is None:
            raise  # it concerns no file that could be named, such as a broken pipe
        # A file that is written stands beside its place at first: of the two names, the second was asked for.
        text = f"{error.filename2 or error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        errors.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True, highlight=False)
        sys.exit(1)
