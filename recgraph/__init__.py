"""recgraph: graph and contrastive recommenders for research.

The names below are imported when they are first used, so that `import recgraph` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Batch": "recgraph.types",
    "BipartiteGraph": "recgraph.graph.bipartite",
    "Encoding": "recgraph.types",
    "Inputs": "recgraph.types",
    "Interactions": "recgraph.data.interactions",
    "Model": "recgraph.models.model",
    "Recommender": "recgraph.models.recommender",
    "View": "recgraph.types",
    "evaluate": "recgraph.evaluation.ranking",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'recgraph' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
