"""Validates a run's configuration: each component against its signature, and components against each other."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from recgraph import registry
from recgraph.baselines.base import Baseline
from recgraph.data.cards import Card
from recgraph.errors import ConfigError, suggest
from recgraph.evaluation import metrics
from recgraph.experiments.compatibility import check_shared_views, check_view, misfit, reads_of, within
from recgraph.experiments.pretraining import check_tables
from recgraph.experiments.rehearsing import rehearse
from recgraph.experiments.schema import RunConfig, Spec
from recgraph.experiments.tasks import can_name, check_tasks
from recgraph.experiments.warmstart import tables_of
from recgraph.models.pairing import check_head
from recgraph.sampling.batches import BUILT, check_draws
from recgraph.types import NonNegativeFloat

WEIGHT = {"weight": (NonNegativeFloat, 1.0)}
"""Option of every objective, in addition to its own."""

INIT: dict[str, tuple[Any, Any]] = {"init": (Any, None)}
"""Option of every encoder, in addition to its own: a baseline whose vectors initialise its tables."""

SEED = {"seed": (int, 0)}
"""Option of every split, in addition to its own."""


def check(config: RunConfig, card: Card, where: str) -> dict[str, Any]:
    """Validate a run's configuration, and return it complete, with defaults filled in.

    Args:
        config: configuration as given in the file.
        card: card of its dataset.
        where: file and row, for messages.

    Raises:
        ConfigError: something is misspelt, missing, or incompatible with the rest.
    """
    known = list(config.evaluate.metrics)
    if config.refit and (by_kind := [name for name in known if metrics.tells_cold(name)]):
        raise ConfigError(
            f"{where}: refit: the cold items of validation would be trained on, and {by_kind[0]} still take them for "
            "cold; take one of the two out"
        )
    checked: dict[str, Any] = {
        "evaluate": config.evaluate.model_dump() | {"metrics": known},
        "split": _check_split(config.split, card, where),
        "refit": config.refit,
    }
    _check_clicks(config, where)
    if config.clicks is not None:
        checked["clicks"] = config.clicks.model_dump() | {"drop": list(config.clicks.drop)}
    if config.baseline is not None:
        baseline = registry.baselines.check(config.baseline, f"{where}: baseline")
        reads = registry.baselines.find(baseline["name"]).reads
        return checked | _content_for(baseline["name"], reads, config, where) | {"baseline": baseline}
    if config.encoder is None:
        raise ConfigError(f"{where}: set either `encoder` or `baseline`")
    if config.train.monitor not in known:
        raise ConfigError(
            f"{where}: train.monitor: {config.train.monitor!r} is not among evaluate.metrics. "
            f"{suggest(config.train.monitor, known)}"
        )
    if metrics.direction(config.train.monitor) != 1:
        raise ConfigError(f"{where}: train.monitor: of {config.train.monitor!r}, more is not better")
    if not config.objectives:
        raise ConfigError(f"{where}: objectives: at least one is needed")
    if "rank" not in config.heads:
        raise ConfigError(f"{where}: heads: one must be called 'rank'; it ranks the catalogue")
    for role in (*config.heads, *config.objectives):
        if not can_name(role):
            raise ConfigError(f"{where}: {role!r} cannot name a head or objective; choose another word")
    encoder = registry.encoders.check(config.encoder, f"{where}: encoder", INIT)
    if encoder["init"] is not None:
        width = next(({"dim": entry["dim"]} for _, entry in within(encoder) if "dim" in entry), {})
        encoder["init"] = _check_init(encoder["init"], width, f"{where}: encoder.init")
    for kind, entry in within(encoder):
        _check_built(kind.reads, f"{where}: encoder {entry['name']} reads")
    reads = reads_of(encoder)
    if encoder.get("context") and config.clicks is None:
        raise ConfigError(f"{where}: encoder.context: only a click to predict has a moment: give a block `clicks:`")
    if config.clicks is not None and (seen := reads & {"graph", "history"}):
        raise ConfigError(
            f"{where}: clicks: encoder {encoder['name']} reads {sorted(seen)[0]}, which holds the rows whose labels "
            "are to be predicted; take one that does not, such as fields"
        )
    if "history" in reads:
        checked["sequences"] = config.sequences.model_dump()
    checked |= _content_for(encoder["name"], reads, config, where)
    of_users = [name for name, entry in checked.get("content", {}).items() if entry["side"] == "user"]
    if of_users and "history" in reads and encoder.get("user") == "history":
        raise ConfigError(
            f"{where}: content.{of_users[0]}: of users, whom {encoder['name']} knows by their histories alone: set "
            "encoder.user to sum or gate, or take it out"
        )
    blend = _check_blend(config, where)
    if blend is not None:
        kind = registry.baselines.find(blend["baseline"]["name"])
        checked |= _content_for(f"blend.baseline {blend['baseline']['name']}", kind.reads, config, where)
    checked |= _relations_for(encoder, config, where)
    if named := {entry["content"] for entry in checked.get("relations", {}).values()} - {
        None,
        *checked.get("content", {}),
    }:
        checked["content"] = {name: config.content[name].model_dump() for name in sorted(named)}
    objectives = {}
    for role, spec in config.objectives.items():
        address = f"{where}: objectives.{role}"
        objectives[role] = checked_spec = registry.objectives.check(spec, address, WEIGHT)
        needs = registry.objectives.find(checked_spec["name"]).needs
        _check_built(needs, f"{address} needs")
        if refused := misfit(checked_spec, encoder, clicks=config.clicks is not None):
            raise ConfigError(f"{address}: {checked_spec['name']} {refused}")
        check_view(checked_spec.get("view"), encoder, f"{address}.view", linked="relations" in checked)
        if checked_spec.get("warm_up", 0) >= config.train.max_epochs:
            raise ConfigError(
                f"{address}.warm_up: {checked_spec['warm_up']} epochs without it, and train.max_epochs is "
                f"{config.train.max_epochs}: it would do nothing"
            )
        head = checked_spec.get("head", "rank")
        if head not in config.heads:
            raise ConfigError(f"{address}.head: no head {head!r}. {suggest(head, config.heads)}")
    check_shared_views(objectives, where)
    if not any(
        spec["weight"] and not registry.objectives.find(spec["name"]).of_parameters for spec in objectives.values()
    ):
        roles = ", ".join(role if spec["weight"] else f"{role} (weight 0)" for role, spec in objectives.items())
        raise ConfigError(f"{where}: objectives: {roles} alone would learn nothing from the data")
    heads = {}
    for name, spec in config.heads.items():
        heads[name] = registry.heads.check(spec, f"{where}: heads.{name}")
        check_head(heads[name], reads, f"{where}: heads.{name}", f"encoder {encoder['name']}")
    negatives = registry.samplers.check(config.negatives, f"{where}: negatives")
    corrected = any(spec.get("logq") for spec in objectives.values()) and negatives["name"] == "in_batch"
    rows = "labelled" if config.clicks is not None else "histories" if "history" in reads else ""
    check_draws(config.train.draw_by, rows, corrected=corrected, where=where)
    drawn = any("negatives" in registry.objectives.find(spec["name"]).needs for spec in objectives.values())
    evenly = {"uniform": "uniform", "popularity": "popularity with alpha 0"}.get(negatives["name"])
    linked = any(entry["side"] == "item" for entry in checked.get("relations", {}).values())
    knows = "content" in reads or linked  # whether the model can rank cold items
    if drawn and evenly and not negatives.get("alpha") and knows and _cold_items(checked["split"], card):
        bad = "content is" if "content" in reads else "links are"
        raise ConfigError(
            f"{where}: negatives: {evenly} draws cold items too, which are never positives: {encoder['name']} would "
            f"learn that their {bad} bad. Take warm, popularity or in_batch"
        )
    built = {"encoder": encoder, "heads": heads, "objectives": objectives}
    tasks = check_tasks(config, checked, objectives, where)
    made = rehearse(checked | tasks | built, config.train, content="content" in reads, where=where)
    if encoder["init"] is not None:
        tables_of(made, encoder["init"]["dim"], where)
    if config.pretrained:
        check_tables(made, where)
    return (
        checked
        | tasks
        | built
        | {
            "negatives": negatives,
            "train": config.train.entries(),
            "blend": blend,
            **({"pretrained": config.pretrained} if config.pretrained else {}),
        }
    )


def _check_clicks(config: RunConfig, where: str) -> None:
    """If clicks are predicted, reject components and metrics of rankings; otherwise, reject metrics of clicks."""
    of_clicks = [name for name in config.evaluate.metrics if name in metrics.OF_CLICKS]
    if config.clicks is None:
        if of_clicks:
            raise ConfigError(f"{where}: evaluate.metrics: {of_clicks[0]} is of clicks: give a block `clicks:`")
        return
    if len(of_clicks) < len(config.evaluate.metrics):
        raise ConfigError(f"{where}: evaluate.metrics: of clicks there are {', '.join(metrics.OF_CLICKS)}")
    init = isinstance(config.encoder, Mapping) and config.encoder.get("init") is not None
    for what, given in (
        *(("baseline", config.baseline), ("blend", config.blend), ("pretrained", config.pretrained)),
        *(("evaluate.sampled", config.evaluate.sampled), ("encoder.init", init)),
    ):
        if given:
            raise ConfigError(f"{where}: {what}: it ranks, and with `clicks:` nothing is ranked")
    for what, spec in (("sharing", config.sharing), ("balance", config.balance)):
        if spec is not None:
            raise ConfigError(f"{where}: {what}: it is between tasks, and with `clicks:` there is one; take it out")


def _content_for(name: str, reads: frozenset[str], config: RunConfig, where: str) -> dict[str, Any]:
    """The `content:` block if a component reads it; left out of configurations that do not need it."""
    if "content" not in reads:
        return {}
    if not config.content:
        raise ConfigError(f"{where}: {name} reads content: give a block `content:` with a modality at least")
    for modality in config.content:
        if not can_name(modality):
            raise ConfigError(f"{where}: content: {modality!r} cannot name a modality; choose another word")
    # Without `ids: false`, which would change the hash of every configuration with content.
    return {
        "content": {
            name: entry.model_dump(exclude=None if entry.ids else {"ids"}) for name, entry in config.content.items()
        }
    }


def _cold_items(split: Mapping[str, Any], card: Card) -> bool:
    """Whether a split is known to have items without training interactions; for official splits, the card says so."""
    if split["name"] == "official":
        return split["carve"] == "items" or card.expected.test_only_items > 0
    return split["name"] == "item_cold" or (split["name"] == "warm_and_cold" and split["side"] == "item")


def _relations_for(encoder: Mapping[str, Any], config: RunConfig, where: str) -> dict[str, Any]:
    """The `relations:` block, for encoders that read the graph."""
    if not config.relations or "graph" not in reads_of(encoder):
        return {}
    for kind, _ in within(encoder):
        if "graph" in kind.reads and not kind.linked:
            raise ConfigError(f"{where}: relations: {kind.__name__} reads interactions alone; take `relations` out")
    for name, entry in config.relations.items():
        if entry.content is not None:
            sides = {key: one for key, one in config.content.items() if one.side == entry.side}
            if entry.content not in sides:
                raise ConfigError(
                    f"{where}: relations.{name}.content: no modality {entry.content!r} of {entry.side}s in `content:`. "
                    f"{suggest(entry.content, sides)}"
                )
    return {"relations": {name: entry.model_dump() for name, entry in config.relations.items()}}


def _check_blend(config: RunConfig, where: str) -> dict[str, Any] | None:
    if config.blend is None:
        return None
    if config.evaluate.parity:
        raise ConfigError(f"{where}: evaluate.parity measures the encoder of each epoch, which is not yet a blend")
    baseline = registry.baselines.check(config.blend.baseline, f"{where}: blend.baseline")
    return {"baseline": baseline, "weight": config.blend.weight}


def _check_init(spec: Spec, width: Mapping[str, int], where: str) -> dict[str, Any]:
    """The entry of a baseline that has vectors, by default of the encoder's width, as its `dim`."""
    given = {"name": spec} if isinstance(spec, str) else spec
    having = [
        name
        for name, kind in registry.baselines.components().items()
        if kind.embeddings is not Baseline.embeddings and not kind.reads  # tables are fitted on interactions alone
    ]
    if isinstance(given, Mapping) and given.get("name") in having:
        given = {**width, **given}
    checked = registry.baselines.check(given, where)
    if checked["name"] not in having:
        raise ConfigError(f"{where}: {checked['name']!r} has no vectors to start with; these have: {', '.join(having)}")
    return checked


def _check_built(fields: Any, what: str) -> None:
    if not isinstance(fields, Set):
        raise ConfigError(f"{what} {fields!r}: expected a set, such as frozenset({{'graph'}})")
    if fields - BUILT:
        raise ConfigError(f"{what} {sorted(fields - BUILT)}, which nobody builds; known: {sorted(BUILT)}")


def _check_split(spec: Spec | None, card: Card, where: str) -> dict[str, Any]:
    """The split, with the options that the dataset's card sets for it unless the file does."""
    given = spec if isinstance(spec, Mapping) else {"name": spec} if spec else {}
    given = {"name": card.default_split, **given}
    return registry.splits.check({**card.splits.get(str(given["name"]), {}), **given}, f"{where}: split", SEED)
