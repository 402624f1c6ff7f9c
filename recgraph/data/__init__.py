"""Datasets: cards, files, preparation, splits, features.

The names below are imported on first use, because importing polars and pydantic takes a second.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Card": "recgraph.data.cards",
    "Dataset": "recgraph.data.datasets",
    "Features": "recgraph.data.features",
    "Interactions": "recgraph.data.interactions",
    "Split": "recgraph.data.splits",
    "Vocabulary": "recgraph.data.interactions",
    "import_file": "recgraph.data.importing",
    "info": "recgraph.data.datasets",
    "load": "recgraph.data.datasets",
    "names": "recgraph.data.cards",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
