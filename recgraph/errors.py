"""Errors for users: each says what was wrong, where, what was expected, and the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RecgraphError(Exception):
    """Base of all errors that a user can cause; the command line prints them without a traceback."""


class ConfigError(RecgraphError, ValueError):
    """An experiment file, an override or a command-line value is wrong. The message starts with its path."""


class DataError(RecgraphError, ValueError):
    """A dataset file, card or table is wrong. The message names the file and, where there is one, the row."""


class LockedError(RecgraphError):
    """Another process is at work in a folder; the message starts with the folder."""


class TrainingError(RecgraphError, RuntimeError):
    """Training cannot continue, for example because a loss is not finite."""


def plainly(message: str) -> str:
    """A message of pydantic's, in the words of YAML."""
    return message.replace("a valid tuple", "a list").replace("a valid dictionary", "a mapping")


def suggest(word: str, options: Iterable[str]) -> str:
    """A sentence that names the option closest to `word`, or all options if none is close."""
    known, word = sorted(set(options)), str(word)  # a key of YAML may be a number, or true for `on`
    folded = {option.casefold(): option for option in known}  # papers write BPR
    # At the default cutoff of 0.6, swapped letters in a short name are missed.
    close = difflib.get_close_matches(word.casefold(), folded, 1, cutoff=0.5)
    if close:
        return f"Did you mean {folded[close[0]]!r}?"
    return f"Known: {', '.join(known)}." if known else "None are known."
