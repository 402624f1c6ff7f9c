"""Worker processes as seen by `bench.py`, and the load of the machine by other programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PYTHONS = {"ours": Path(sys.executable), "peers": HERE / ".venv" / "bin" / "python"}
TICKS = os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """Processor seconds used by all processes since boot, plus those stolen by the host of a virtual machine."""
    user, nice, system, _, _, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS


def busy_cores(seconds: float = 2.0) -> float:
    """The average number of busy cores over the next `seconds`."""
    before = busy_seconds()
    time.sleep(seconds)
    return (busy_seconds() - before) / seconds


class Process:
    """A worker process, which sleeps between requests.

    Args:
        script: file in this folder.
        task: what to do; passed on as JSON.
        folder: working directory, also for the log of stderr.
        threads: threads per library.
        environment: further environment variables.
    """

    def __init__(
        self, script: str, task: dict[str, Any], folder: Path, threads: int, environment: dict[str, str] | None = None
    ) -> None:
        self.name = f"{script} {json.dumps(task)}"
        python = PYTHONS["peers" if script.startswith("peer_") else "ours"]
        counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
        self._log = (folder / f"{time.monotonic_ns()}.log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [python, HERE / script, json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=folder,
            env={
                **os.environ,
                **dict.fromkeys(counts, str(threads)),
                "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",  # RecBole loads pickles
                **(environment or {}),
            },
        )
        self.others = 0.0  # processor seconds of other programs while this worker was active
        self.worked = 0.0  # seconds that this worker was active

    def answer(self) -> dict[str, Any]:
        """Wait for an answer.

        Raises:
            RuntimeError: the worker has died; the message contains the end of its stderr.
        """
        assert self._process.stdout is not None
        started, busy, own = time.perf_counter(), busy_seconds(), self._used()
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            raise RuntimeError(f"{self.name} ended with code {code}:\n{self._log.read()[-3000:]}")
        self.worked += time.perf_counter() - started
        self.others += busy_seconds() - busy - (self._used() - own)
        found: dict[str, Any] = json.loads(line)
        return found

    def go(self) -> dict[str, Any]:
        """Request one repeat, and wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self.answer()

    def stop(self) -> None:
        """End the worker; kill it if it does not exit within 20 seconds."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _used(self) -> float:
        """Processor seconds so far of the worker's threads, and of its children that have ended."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / TICKS
