"""Builds the batches of a run: pairs, histories or labelled rows, with what its encoder and objectives read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from recgraph import registry
from recgraph.data.interactions import Interactions
from recgraph.data.labels import LabelData
from recgraph.encoders.bert4rec import BERT4Rec
from recgraph.encoders.sequential import SequenceEncoder
from recgraph.errors import ConfigError
from recgraph.graph.bipartite import BipartiteGraph
from recgraph.models.recommender import Recommender
from recgraph.objectives.base import Objectives
from recgraph.sampling.batches import Batches
from recgraph.sampling.clicks import ClickBatches
from recgraph.sampling.sequences import SequenceBatches


def batches_of(
    config: Mapping[str, Any],
    train: Interactions,
    recommender: Recommender,
    objectives: Objectives,
    *,
    generators: Mapping[str, torch.Generator],
    graph: BipartiteGraph,
    labels: Mapping[str, LabelData],
    device: torch.device,
) -> Batches:
    """Build the batches that a configuration trains on.

    Args:
        config: configuration of the run.
        train: interactions to train on.
        recommender, objectives: declare what they read.
        generators: `order` and `negatives`; also `views`, on the device, if something draws views.
        graph, labels: already on the device.
        device: where batches go.

    Raises:
        ConfigError: the encoder or an objective does not support the requested targets of sequences.
    """
    encoder, needs = recommender.encoder, objectives.needs
    kind: type[Batches] = Batches
    more: dict[str, Any] = {}
    if isinstance(encoder, SequenceEncoder):
        kind, more = SequenceBatches, sequence_options(encoder, config["sequences"], needs)
    if "clicks" in config:
        kind, more = ClickBatches, {"context": "context" in encoder.reads}
    return kind(
        train=train,
        batch_size=config["train"]["batch_size"],
        order=generators["order"],
        sampling=generators["negatives"],
        graph=graph if "graph" in encoder.reads | needs else None,
        sampler=registry.samplers.build(config["negatives"], train) if "negatives" in needs else None,
        device=device,
        views=generators.get("views"),
        distinct="distinct" in needs,
        log_q="log_q" in needs,
        content=recommender.content and recommender.content.to(device),
        labels=labels,
        draw_by=config["train"].get("draw_by", "interaction"),
        **more,
    )


def sequence_options(encoder: SequenceEncoder, settings: Mapping[str, Any], needs: frozenset[str]) -> dict[str, Any]:
    """Options of `SequenceBatches`, from the `sequences:` block and what objectives need.

    Raises:
        ConfigError: the encoder or an objective does not support the requested targets.
    """
    if settings["targets"] not in encoder.targets:
        raise ConfigError(
            f"sequences.targets: {type(encoder).__name__} as configured learns from {sorted(encoder.targets)}, "
            f"got {settings['targets']!r}"
        )
    partners = "partners" in needs
    if partners and settings["targets"] != "last":
        raise ConfigError(f"sequences.targets: histories before the same item want 'last', got {settings['targets']!r}")
    masked = {"masked": encoder.masked} if isinstance(encoder, BERT4Rec) else {}
    return {"max_length": encoder.max_length, "partners": partners, **settings, **masked}
