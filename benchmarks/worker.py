"""The worker's side of the benchmark: load once, then one repeat per line on stdin; answers are JSON lines.

This module runs in both environments, so it imports only the standard library at the top.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TextIO

Repeat = Callable[[], dict[str, Any]]
"""Does the work once; returns `seconds`, and other values to be stored."""


class Pairs(NamedTuple):
    """The data that all workers share: index pairs of a split, as written by `ours.dump`.

    Attributes:
        train, test: int64 arrays [rows, 2] of user and item indices.
        num_users, num_items: sizes of the catalogues.
    """

    train: Any
    test: Any
    num_users: int
    num_items: int


def pairs(folder: Path) -> Pairs:
    """Read what `ours.dump` wrote into `folder`."""
    import numpy as np

    sizes = json.loads((folder / "sizes.json").read_text(encoding="utf-8"))
    return Pairs(np.load(folder / "train.npy"), np.load(folder / "test.npy"), sizes["users"], sizes["items"])


class Channel:
    """The connection to `bench.py`. Anything else that the process prints goes to stderr.

    Attributes:
        task: what to do, from the JSON object that is the process's only argument.
    """

    def __init__(self) -> None:
        self.task: dict[str, Any] = json.loads(sys.argv[1])
        self._answers: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def wait(self) -> None:
        """Sleep until the next "go"; exit if stdin is closed."""
        if sys.stdin.readline() != "go\n":
            sys.exit()

    def answer(self, **answer: Any) -> None:
        """Send an answer, with the peak resident memory so far in MiB."""
        status = Path("/proc/self/status").read_text(encoding="ascii")
        answer["peak_mib"] = int(status.partition("VmHWM:")[2].split()[0]) // 2**10
        print(json.dumps(answer), file=self._answers, flush=True)


def import_optimisers() -> None:
    """Make torch import its compiler, which it does for the first optimiser and which takes most of a second."""
    import torch

    torch.optim.Adam([torch.zeros(1, requires_grad=True)])


def versions(packages: list[str]) -> dict[str, str]:
    """Installed versions of packages."""
    return {name: version(name) for name in packages}


def serve(load: Callable[[dict[str, Any]], Repeat], packages: list[str], *, reads_text: bool) -> None:
    """Run a worker until stdin is closed.

    Args:
        load: prepares the work; its imports are done beforehand, so they are not timed.
        packages: packages whose versions are reported.
        reads_text: whether `load` starts from text files, so that its time can be compared.
    """
    channel = Channel()
    started = time.perf_counter()
    repeat = load(channel.task)
    seconds = time.perf_counter() - started
    channel.answer(load_seconds=seconds if reads_text else None, packages=versions(packages))
    while True:
        channel.wait()
        channel.answer(**repeat())
