"""What a run ran on: enough to tell why two runs differ."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import resource
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from recgraph.errors import DataError

PACKAGES = ("recgraph", "torch", "torch-geometric", "dgl", "numpy", "scipy", "scikit-learn", "polars")
"""Packages whose versions can move a figure."""

OUTSIDE = (
    "cells.py",
    "charts.py",
    "cli",
    "drawing.py",
    "explaining.py",
    "figures.py",
    "label_tables.py",
    "page.py",
    "paths.py",
    "rendering.py",
    "report.py",
    "scheduling.py",
    "search.py",
    "studies.py",
    "tables.py",
    "tuning.py",
)
"""Files and folders that no figure depends on."""


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, commit, hardware and command, as JSON."""
    commit, dirty = code_version()
    return {
        "commit": commit,
        "dirty": dirty,
        "code": code_digest(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "command": sys.argv,
    }


@cache
def code_version() -> tuple[str | None, bool | None]:
    """Commit of the checkout this code runs from, and whether it has been changed since; None outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        git(
            "ls-files", "--error-unmatch", Path(__file__).name
        )  # fails where recgraph is installed inside another checkout
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.SubprocessError):
        return None, None


@cache
def code_digest() -> str:
    """Ten hex digits of recgraph's source files, without those that only start runs or show what came out.

    A result counts as up to date only for the code that made it; a commit that changes a document is no other code.
    """
    folder = Path(__file__).parent
    hasher = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if name.parts[0] not in OUTSIDE:
            hasher.update(name.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return hasher.hexdigest()[:10]


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for what is allocated next, instead of handing it back to the system.

    A training step and a ranking allocate the same tens of megabytes over and over. By default glibc gets each block of
    more than 32 MB, and after every large free the top of its heap, fresh from the system, which fills it with zeros
    page by page: a LightGCN step on Gowalla took 38 ms so, and 26 ms with freed memory kept (two cores). The process
    stays as large as it has ever been, until `reset_peak_memory`. Does nothing where the C library is not glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD (malloc.h): smaller blocks come from the heap
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: free memory at the top of the heap stays there


def check_memory(needed: int, what: str) -> None:
    """Refuse to begin what cannot end, where the system says how much memory is free (Linux).

    Args:
        needed: bytes.
        what: the start of the message, such as "the weights need".

    Raises:
        DataError: less is free.
    """
    try:
        free = int(Path("/proc/meminfo").read_text(encoding="ascii").partition("MemAvailable:")[2].split()[0]) * 2**10
    except (OSError, IndexError):
        return
    if needed > free:
        raise DataError(f"{what} {needed / 2**30:.1f} GiB of memory; {free / 2**30:.1f} GiB are free")


def reset_peak_memory() -> None:
    """Let `peak_memory` count from now on, where the system can (Linux).

    Freed memory goes back to the system first, where it would count for what comes after it: `keep_freed_memory`.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # man 5 proc: resets VmHWM


def peak_memory() -> int:
    """Most resident memory of this process since `reset_peak_memory` (off Linux, since its start), in MiB."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) // 2**10
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20  # bytes on macOS


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
