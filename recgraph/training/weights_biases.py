"""Mirrors runs to Weights & Biases (W&B): by default offline, into the run's folder.

Tables are made from files alone, so a run continues unchanged if W&B is unreachable or broken. Of W&B's process-wide
state, only silence and the mode of runs are set; each run is a separate object.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recgraph.errors import ConfigError
from recgraph.files import digest, write_text
from recgraph.training.trackers import Record, Tracker

if TYPE_CHECKING:
    from recgraph.experiments.experiment import Run

logger = logging.getLogger(__name__)

Mode = Literal["offline", "online"]

PROJECT = "recgraph"
"""The default W&B project of runs."""

PROBE_SECONDS = 3.0
"""Time to wait for the server's first response: TCP sends a lost first packet again after 1 s (RFC 6298)."""

INIT_SECONDS = 10.0
"""Time to wait for a reachable server to open a run; wandb's default of 90 s would delay training."""

FINISH_SECONDS = 30.0
"""Time to wait at the end for uploads, which are kilobytes; `wandb sync` can send what is left."""


class WeightsAndBiases(Tracker):
    """Mirrors a run to one W&B run: group = table, name = row/dataset/seed, configuration with dotted names.

    A resumed run keeps its id. Earlier epochs are read from `metrics.jsonl` and logged again unless the server has
    them, so that the newest folder `wandb/offline-run-*` is complete. Older ones are deleted.

    Args:
        run: the run to mirror.
        folder: folder of the run; W&B's files go to its `wandb/`.
        project: name of the W&B project.
        mode: "online" needs a key and a network; without them, the run is tracked offline, with a warning.

    Raises:
        ConfigError: wandb is not installed.
    """

    def __init__(self, run: Run, folder: Path, *, project: str = PROJECT, mode: Mode = "offline") -> None:
        self._wandb = _import()
        self._folder, self._mode = folder, mode
        self._what = {"table": run.table, "row": run.row, "dataset": run.dataset, "seed": run.seed}
        self.id = digest([run.table, run.row, run.dataset, run.config_hash, run.seed], 16)
        self._options = {
            "project": project,
            "id": self.id,
            "group": run.table,
            "name": f"{run.row}/{run.dataset}/{run.seed}",
            "job_type": "run",
            "config": {**self._what, **flat(run.config, ".")},
        }
        self._started = False
        self._run: Any = None

    def start(self, epoch: int, max_epochs: int, best: float) -> None:
        """Open the W&B run and log earlier epochs."""
        # Only a run that was tracked in this folder before continues the server's. One with the same id that is of
        # other code, or has taken over another run's epochs, replaces it.
        self._open("allow" if epoch and (self._folder / "wandb" / "id").is_file() else None)
        path = self._folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines()[:epoch] if epoch and path.exists() else []
        for line in lines:
            self.epoch(json.loads(line))

    def epoch(self, record: Record) -> None:
        """Log an epoch, unless the server has it; W&B's step is the epoch."""
        with self._guarded():
            if self._run is not None and record["epoch"] >= self._run.starting_step:
                more = {key: record.get(key, {}) for key in ("balance", "validation")}
                curves = {"loss": record["losses"], **more}
                values = {"epoch_seconds": record["seconds"], **flat(curves, "/")}
                self._run.log(values, step=record["epoch"], commit=True)

    def result(self, result: Mapping[str, Any]) -> None:
        """Write the content of `result.json` to the summary, and end the run."""
        if not self._started:  # a baseline, which has no epochs
            self._open(None)
        with self._guarded():
            if self._run is not None:
                named = {key: value for key, value in result.items() if key not in self._what}
                self._run.summary.update(flat(named, "/"))
        self._end(failed=False)

    def close(self) -> None:
        """End the run as failed, unless `result` has ended it."""
        self._end(failed=True)

    def _open(self, resume: str | None) -> None:
        self._started = True
        with self._guarded():
            write_text(self._folder / "wandb" / "id", self.id + "\n")
            self._run = _open(self._wandb, self._folder, self._mode, resume, self._options)

    def _end(self, *, failed: bool) -> None:
        with self._guarded():
            if self._run is not None:
                self._run.finish(exit_code=int(failed))
        self._run = None

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn any error of W&B into a warning: it ends the tracking, not the run."""
        try:
            yield
        except Exception as error:  # wandb raises its own errors, and those of its sockets and of the disk
            logger.warning("%s: Weights & Biases failed, the run goes on untracked: %r", self._folder, error)
            self._run = None


def log_table(table: str, csv: Path, folder: Path, *, project: str = PROJECT, mode: Mode = "offline") -> None:
    """Log a table's CSV as an artifact, in a separate run; logging it again makes a new version of the artifact.

    Args:
        table: name of the table, which is the group of its runs.
        csv: file written by `recgraph.reporting.tables.write_csv`.
        folder: folder of the table's runs; W&B's files go to its `wandb/`.
        project: name of the W&B project.
        mode: as in `WeightsAndBiases`.

    Raises:
        ConfigError: wandb is not installed.
    """
    wandb = _import()
    options = {"project": project, "id": digest(["table", table], 16), "group": table, "name": table}
    try:
        run = _open(wandb, folder, mode, None, {**options, "job_type": "table"})
        plain = re.sub(r"[^\w.-]", "-", table, flags=re.ASCII)  # the characters that W&B accepts in such a name
        artifact = wandb.Artifact(f"table-{plain}", type="table")
        artifact.add_file(str(csv), name=csv.name)
        run.log_artifact(artifact)
        run.finish()
    except Exception as error:
        logger.warning("%s: Weights & Biases failed, the table is not logged: %r", folder, error)


def _import() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(f"tracking needs wandb: pip install 'recgraph[wandb]' ({error})") from error
    return wandb


def _open(wandb: Any, folder: Path, mode: Mode, resume: str | None, options: Mapping[str, Any]) -> Any:
    """Open a W&B run in the given mode or, with a warning, offline."""
    if mode == "online":
        why = _why_not_online(wandb)
        if not why:
            try:
                return _init(wandb, folder, "online", resume, options)
            except Exception as error:  # the server hangs, or rejects the key, the entity or a deleted id
                why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                wandb.teardown()  # else its process keeps the id in use
        logger.warning("%s: Weights & Biases is offline, for %s; `wandb sync` sends the run later", folder, why)
    wandb.setup(wandb.Settings(silent=True, mode="offline"))  # online, W&B would send usage statistics
    # Never resumed offline: `wandb sync` would append to the server's run, with some epochs twice.
    return _init(wandb, folder, "offline", None, options)


def _init(wandb: Any, folder: Path, mode: Mode, resume: str | None, options: Mapping[str, Any]) -> Any:
    for earlier in (folder / "wandb").glob(f"*run-*-{options['id']}*"):
        # The new run contains all of it. For some seconds, the process of a killed run may still write there.
        shutil.rmtree(earlier, ignore_errors=True)
    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,  # the commit is in the summary
        disable_code=True,
        save_code=False,
        symlink=False,
        x_disable_stats=True,
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
    )
    (folder / "wandb").mkdir(parents=True, exist_ok=True)
    # W&B writes from a separate process that keeps its working directory: a relative path would be wrong.
    folder = folder.absolute()
    return wandb.init(**options, dir=folder, mode=mode, resume=resume, reinit="create_new", settings=settings)


def _why_not_online(wandb: Any) -> str:
    """Why online tracking is impossible; empty if it is possible."""
    # Not yet online: at its end, the process would wait for a server that hangs.
    url = wandb.setup(wandb.Settings(silent=True, mode="offline")).settings.base_url
    trouble = _trouble(url)
    if trouble:
        return f"{url} cannot be reached ({trouble})"
    wandb.setup(wandb.Settings(silent=True, mode="online"))
    try:
        key = wandb.login(prompt=False, verify=False)  # never prompts, even on a terminal
    except Exception as error:
        return str(error)
    return "" if key else f"there is no key for {url} (`wandb login` stores one)"


def _trouble(url: str) -> str:
    """Why `url` does not answer within `PROBE_SECONDS`, through the same proxies as wandb; empty if it answers."""
    answer = ["no answer"]

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=PROBE_SECONDS).close()
            answer[0] = ""
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            # An error page, or a certificate that only wandb is told to trust, means that a server answers.
            alive = isinstance(error, urllib.error.HTTPError) or isinstance(reason, ssl.SSLError)
            answer[0] = "" if alive else str(reason)

    # In a thread, because the timeout does not cover name resolution.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answer[0]


def flat(tree: Mapping[str, Any], separator: str) -> dict[str, Any]:
    """Flatten a tree into its leaves, named by their full paths."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= {f"{key}{separator}{name}": leaf for name, leaf in flat(value, separator).items()}
        else:
            found[key] = value
    return found
