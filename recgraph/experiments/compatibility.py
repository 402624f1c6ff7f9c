"""Rejects views and objectives that change, compare or read what an encoder does not have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recgraph import registry
from recgraph.errors import ConfigError
from recgraph.graph.low_rank import LowRankGraph
from recgraph.objectives.base import Objective
from recgraph.registry import Component
from recgraph.views.sequence import Reorder


def within(encoder: Mapping[str, Any]) -> Iterator[tuple[Component, Mapping[str, Any]]]:
    """Yield an encoder's class and checked entry, then those of the encoders nested in it."""
    kind = registry.encoders.find(encoder["name"])
    yield kind, encoder
    for key in registry.nested(kind):
        if encoder[key] is not None:
            yield from within(encoder[key])


def reads_of(encoder: Mapping[str, Any]) -> frozenset[str]:
    """What an encoder and the encoders nested in it read."""
    return frozenset().union(*(kind.reads for kind, _ in within(encoder)))


def misfit(objective: Mapping[str, Any], encoder: Mapping[str, Any], *, clicks: bool) -> str:
    """Why an objective cannot learn from these rows or from this encoder's vectors; empty if it can.

    Args:
        objective, encoder: their checked entries.
        clicks: whether rows are labelled, so that not all of them are positives.
    """
    kind, name, reads = registry.objectives.find(objective["name"]), encoder["name"], reads_of(encoder)
    if "click" in kind.needs and not clicks:
        return "learns from labelled rows: give a block `clicks:`"
    if clicks and not (kind.of_parameters or kind.needs & {"click", "distinct"}):
        return "takes every row for a positive, and of `clicks:` some are not: take log_loss or squared_error"
    if "content" in kind.needs and "content" not in reads:
        return f"compares items by content, which encoder {name} does not read: take hybrid or content"
    if clicks and "graph" in kind.needs:
        return "reads the graph, which holds the rows whose labels are to be predicted"
    if kind.compares_sides and not registry.encoders.find(name).two_sided:
        return f"compares collaborative with content vectors, and encoder {name} lacks one; take hybrid"
    if encoder.get("wide") and not (kind.of_parameters or "head" in objective):
        return f"compares vectors, and encoder {name} gives weights beside them: set encoder.wide to false"
    if (of := "history" if "history" in reads else "moment" if encoder.get("context") else "") and (
        kind.compares_tables or objective.get("against") == "all"
    ):
        return f"compares vectors of all users, which depend on a {of} here"
    view = objective.get("view")
    of_histories = view is not None and registry.views.find(view["name"]).changes == {"history"}
    if of_histories and objective.get("item_weight") and not encoder.get("item_dropout"):
        return "compares items too, which a view of histories does not change: take sequence_contrast"
    if kind.compares_layers or objective.get("layers") == "each":
        # An encoder of histories uses only the last layer of its item encoder.
        layered = [] if "history" in reads else [entry for one, entry in within(encoder) if one.layered]
        if not layered:
            able = [one for one, other in registry.encoders.components().items() if other.layered]
            return f"compares layers, of which encoder {name} shows none: take {' or '.join(able)}"
        wanted, last = max(objective.get("layer") or 0, objective.get("anchor") or 0), layered[0].get("num_layers")
        if last is not None and wanted > last:
            return f"compares layer {wanted}, and encoder {name} has layers 0 to {last}"
    if kind.compares_histories:
        if "history" not in reads:
            return f"compares histories, which encoder {name} does not read: for graphs and tables take view_contrast"
        if objective.get("view", "") is None and not any(_drops(entry) for _, entry in within(encoder)):
            return f"has no view and encoder {name} no dropout: the two vectors of a history would be the same"
    return ""


def _drops(encoder: Mapping[str, Any]) -> bool:
    return any(bool(value) for key, value in encoder.items() if key.endswith("dropout"))


def check_view(view: Mapping[str, Any] | None, encoder: Mapping[str, Any], where: str, *, linked: bool) -> None:
    """Reject a view that changes nothing the encoder reads, or makes a graph that the encoder cannot read.

    Args:
        view, encoder: their checked entries.
        where: the view's address, for messages.
        linked: whether the graph has links of relations, which not every view supports.
    """
    if view is None:
        return
    kind, name = registry.views.find(view["name"]), encoder["name"]
    if not kind.changes & reads_of(encoder):
        raise ConfigError(f"{where}: {view['name']} changes {sorted(kind.changes)}, which {name} does not read")
    if kind is Reorder and not getattr(registry.encoders.find(name), "ordered", True):
        raise ConfigError(f"{where}: {view['name']} changes the order of histories, which {name} does not see")
    seen = [entry for reader, entry in within(encoder) if reader.reads & kind.changes and reader.propagates]
    if kind.changes == {"graph"} and not seen:
        raise ConfigError(f"{where}: {view['name']} changes edges, and nothing in {name} propagates over any")
    if kind.changes <= {"graph", "perturb"} and all(entry.get("num_layers") == 0 for entry in seen or [encoder]):
        raise ConfigError(f"{where}: {view['name']} changes layers from 1 on, and {name} has none: num_layers is 0")
    if linked and not kind.linked:
        raise ConfigError(f"{where}: {view['name']} is of interactions alone: it has no place for relations")
    readers = [reader for reader, _ in within(encoder) if "graph" in reader.reads]
    if kind.leaves is not None and any(kind.leaves not in reader.graphs for reader in readers):
        raise ConfigError(f"{where}: {view['name']} leaves a {kind.leaves.__name__}, which {name} cannot read")
    exponents = {(entry.get("alpha", 0.5), entry.get("beta", 0.5)) for entry in seen}
    if kind.leaves is LowRankGraph and exponents != {(0.5, 0.5)}:
        raise ConfigError(
            f"{where}: {view['name']} approximates Â with alpha and beta 0.5; {name} has {exponents.pop()}"
        )


def check_shared_views(objectives: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Reject a view of the graph that comes after another which leaves what it cannot change.

    Views of objectives with their own `inputs` change the inputs that all share, one after the other.

    Args:
        objectives: their checked entries by role, in order.
        where: file and row, for messages.
    """
    before = ""
    for role, spec in objectives.items():
        if spec.get("view") is None or registry.objectives.find(spec["name"]).inputs is Objective.inputs:
            continue
        view = registry.views.find(spec["view"]["name"])
        if before and "graph" in view.changes:
            raise ConfigError(
                f"{where}: objectives.{role}.view: {spec['view']['name']} cannot change the graph that all objectives "
                f"share, after objectives.{before}.view has: let one alone change it"
            )
        before = role if view.leaves is not None else before
