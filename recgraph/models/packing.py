"""Convert graph, histories and content to named tensors, for saving, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recgraph.data.content import Pipeline, pack, unpack
from recgraph.data.histories import Histories
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.graph.links import Links
from recgraph.types import Content, Modality


def pack_graph(graph: BipartiteGraph | None) -> dict[str, Tensor]:
    """The edges, weights, exponents and links of a graph; empty for None."""
    if graph is None:
        return {}
    tensors = {"graph.users": graph.users, "graph.items": graph.items}
    if graph.weights is not None:
        tensors["graph.weights"] = graph.weights
    if graph.exponents != (0.5, 0.5):
        tensors["graph.exponents"] = torch.tensor(graph.exponents, dtype=torch.float64)
    for side, links in (("user", graph.user_links), ("item", graph.item_links)):
        if links is not None:
            tensors |= {f"links.{side}.{name}": value for name, value in links._asdict().items()}
    return tensors


def unpack_graph(tensors: Mapping[str, Tensor], num_users: int, num_items: int) -> BipartiteGraph | None:
    """The inverse of `pack_graph`."""
    if "graph.users" not in tensors:
        return None
    graph = BipartiteGraph.from_edges(tensors["graph.users"], tensors["graph.items"], num_users, num_items)
    if "graph.weights" in tensors:  # the edges were sorted, so that weights still stand beside their own
        graph = graph.reweighted(tensors["graph.weights"])
    if "graph.exponents" in tensors:
        graph = graph.normalised(*tensors["graph.exponents"].tolist())
    return graph.linked(
        *(
            Links(*(tensors[f"links.{side}.{name}"] for name in Links._fields))
            if f"links.{side}.rows" in tensors
            else None
            for side in ("user", "item")
        )
    )


def pack_histories(histories: Histories | None) -> dict[str, Tensor]:
    """Users' histories; empty for None."""
    return {} if histories is None else {"history.items": histories.items, "history.starts": histories.starts}


def unpack_histories(tensors: Mapping[str, Tensor]) -> Histories | None:
    """The inverse of `pack_histories`."""
    if "history.items" not in tensors:
        return None
    return Histories(tensors["history.items"], tensors["history.starts"])


def pack_content(content: Content | None) -> dict[str, Tensor]:
    """The modalities of both sides, numbered because layers may depend on their order; empty for None."""
    tensors: dict[str, Tensor] = {}
    for side in ("items", "users") if content else ():
        for number, (name, (values, present)) in enumerate(getattr(content, side).items()):
            key = f"{side}.{number:03}.{name}"
            tensors |= {f"{key}.values": values, f"{key}.present": present}
    return tensors


def unpack_content(tensors: Mapping[str, Tensor]) -> Content | None:
    """The inverse of `pack_content`."""
    modalities: dict[str, dict[str, Modality]] = {"items": {}, "users": {}}
    for key in sorted(tensors):
        side, _, rest = key.partition(".")
        if side in modalities and rest.endswith(".values"):
            name = rest.partition(".")[2].removesuffix(".values")
            modalities[side][name] = Modality(tensors[key], tensors[key.removesuffix("values") + "present"])
    return Content(**modalities) if any(modalities.values()) else None


def pack_pipeline(pipeline: Pipeline | None) -> dict[str, Tensor]:
    """The tensors of a content pipeline; empty for None."""
    return {} if pipeline is None else {f"pipeline.{name}": value for name, value in pack(pipeline)[1].items()}


def unpack_pipeline(header: Mapping[str, Any] | None, tensors: Mapping[str, Tensor]) -> Pipeline | None:
    """The inverse of `pack_pipeline`, with the JSON header from `pack`; None if there is no header."""
    if header is None:
        return None
    prefix = "pipeline."
    return unpack(header, {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)})
