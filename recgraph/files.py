"""Writes files atomically, so that a reader never sees half of one; also locks folders and hashes values."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from recgraph.errors import DataError, LockedError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success, rename it over `path`; on failure, remove it.

    The rename is atomic, so a process killed at any moment leaves either the old file or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")  # process ids repeat across containers
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock `folder` for this process within the block, and delete temporary files that a killed process left there.

    Raises:
        LockedError: another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the process ends, in whatever way
        except BlockingIOError:
            raise LockedError(f"{folder}: another process is at work here") from None
        for leftover in folder.rglob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        yield


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Run a block in one process at a time, among those that share the folder; nothing is left there."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)  # released when it is closed, or the process ends
        yield
    finally:
        os.close(opened)


@contextmanager
def undamaged(path: Path) -> Iterator[Path]:
    """Yield a file of a finished run to be read within the block, in which any failure but to open it is damage.

    Raises:
        DataError: the file is damaged.
    """
    try:
        yield path
    except OSError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: damaged: {text}; delete its folder to run it again") from None


def write_yaml(path: Path, value: Any) -> None:
    """Write a tree as YAML, atomically; tuples become lists, and floats read back exactly."""
    tree = json.loads(json.dumps(value))
    write_text(path, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=float("inf")))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are rejected, since JSON does not have them."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def digest(value: Any, length: int = 10) -> str:
    """The first `length` hex digits of the SHA-256 of `value`'s canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
