"""The environment of a run, to explain why two runs differ; and control of the process's memory."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from recgraph.errors import DataError

PACKAGES = ("recgraph", "torch", "torch-geometric", "dgl", "numpy", "scipy", "scikit-learn", "polars")
"""Packages whose versions can change results."""

OUTSIDE = ("cli/", "experiments/scheduling.py", "explaining/", "reporting/", "tuning/")
"""Files and folders that cannot change results."""


def environment(device: torch.device, others: tuple[str, ...] = ()) -> dict[str, Any]:
    """Versions, commit, hardware and command line, as values that JSON can hold; `others` as in `code_digest`."""
    commit, dirty = code_version()
    return {
        "commit": commit,
        "dirty": dirty,
        "code": code_digest(others),
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
    """Commit of the checkout that contains this code, and whether the code differs from it; None outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # fails if installed inside another checkout
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.SubprocessError):
        return None, None


@cache
def code_digest(others: tuple[str, ...] = ()) -> str:
    """Ten hex digits that hash recgraph's source files, except `OUTSIDE`: those that only start runs or show results.

    A result is up to date only for the code that produced it. Unlike the commit, the digest ignores changes to other
    files.

    Args:
        others: names of other packages, or of modules outside any package, that a run uses. If there are any, a plus
            sign follows, and ten digits for all their source files.
    """
    own = _digest([Path(__file__).parent], OUTSIDE)
    return f"{own}+{_digest([_source(name) for name in others])}" if others else own


def _digest(sources: Sequence[Path], outside: tuple[str, ...] = ()) -> str:
    """Ten hex digits that hash single files, and folders' Python files but those whose paths begin as `outside`."""
    hasher = hashlib.sha256()
    for source in sources:
        for path in sorted(source.rglob("*.py")) if source.is_dir() else filter(Path.is_file, [source]):
            name = path.relative_to(source).as_posix()
            if not name.startswith(outside):
                hasher.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return hasher.hexdigest()[:10]


def _source(package: str) -> Path:
    """The folder of a package, or the file of a module; of what has none, such as a notebook, only the name."""
    if package in sys.modules:  # `find_spec` raises an error for the script that runs, "__main__"
        module = sys.modules[package]
        folders, file = getattr(module, "__path__", None), getattr(module, "__file__", None)
    else:
        spec = importlib.util.find_spec(package)
        folders, file = getattr(spec, "submodule_search_locations", None), getattr(spec, "origin", None)
    return Path([*(folders or []), file or package][0])


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for later allocations instead of returning it to the system.

    A training step or a ranking allocates the same tens of megabytes again and again. By default, glibc requests each
    block above 32 MB from the system, and returns the top of its heap after every large free. The system fills new
    memory with zeros, page by page: a LightGCN step on Gowalla took 38 ms this way, and 26 ms with freed memory kept
    (two cores). The process does not shrink until `reset_peak_memory`. Does nothing if the C library is not glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD (malloc.h): smaller blocks come from the heap
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: free memory at the top of the heap stays there


def check_memory(needed: int, what: str) -> None:
    """Raise an error if too little memory is free, where the system reports it (Linux).

    Args:
        needed: bytes needed.
        what: the start of the message, such as "the weights need".

    Raises:
        DataError: less memory is free than needed.
    """
    try:
        free = int(Path("/proc/meminfo").read_text(encoding="ascii").partition("MemAvailable:")[2].split()[0]) * 2**10
    except (OSError, IndexError):
        return
    if needed > free:
        raise DataError(f"{what} {needed / 2**30:.1f} GiB of memory; {free / 2**30:.1f} GiB are free")


def reset_peak_memory() -> None:
    """Make `peak_memory` count from this call on, where the system supports it (Linux).

    Memory kept by `keep_freed_memory` is returned to the system first, since it would count as in use.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # man 5 proc: resets VmHWM


def peak_memory() -> int:
    """Peak resident memory of this process since `reset_peak_memory` (off Linux, since its start), in MiB."""
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
