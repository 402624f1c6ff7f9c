"""From an experiment file to runs with complete, checked configurations."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from recgraph import registry
from recgraph.baselines.base import Baseline
from recgraph.data import cards
from recgraph.data.cards import Card
from recgraph.data.content import check_columns
from recgraph.data.features import kinds
from recgraph.data.modalities import ModalitySettings
from recgraph.errors import ConfigError, suggest
from recgraph.evaluation import metrics
from recgraph.files import digest
from recgraph.sampling import BUILT
from recgraph.schema import Experiment, Range, RunConfig, Spec, folder_name, read, validate

WEIGHT = {"weight": (Annotated[float, Field(ge=0, allow_inf_nan=False)], 1.0)}
"""What every objective takes beside its own arguments."""

INIT: dict[str, tuple[Any, Any]] = {"init": (Any, None)}
"""What every encoder takes beside its own arguments: a baseline whose vectors its tables start with."""

SEED = {"seed": (int, 0)}
"""What every split takes beside its own arguments."""

RECIPE = ("encoder", "heads", "objectives", "negatives", "train")
"""Parts of a run that a baseline has none of."""


@dataclass(frozen=True)
class Run:
    """One cell of a table: a row's configuration on a dataset with a seed."""

    table: str
    row: str
    dataset: str
    seed: int
    config: dict[str, Any]

    @property
    def config_hash(self) -> str:
        """Ten hex digits that identify the complete configuration, defaults included."""
        return digest(self.config)

    def folder(self, root: Path) -> Path:
        """Where the run lives below `root`."""
        return root / self.table / folder_name(self.row) / self.dataset / self.config_hash / f"seed-{self.seed}"


def plan(
    path: Path,
    *,
    rows: Iterable[str] = (),
    datasets: Iterable[str] = (),
    seeds: Iterable[int] = (),
    overrides: Mapping[str, Any] | None = None,
) -> list[Run]:
    """All runs of an experiment file, or the selected ones, with complete configurations.

    Every row of the file is checked, also those that are not selected.

    Args:
        path: the experiment file; its stem names the table.
        rows, datasets, seeds: keep only these; empty for all. Other datasets and seeds than the file's may be named.
        overrides: dotted path -> value, applied to the selected rows after their own. Those of training do not concern
            baselines, unless only baselines are selected.

    Raises:
        ConfigError: anything is misspelt or does not fit, with its path and the nearest valid name.
    """
    experiment = read(path)
    chosen_cards = [_card(name, path) for name in dict.fromkeys(datasets) or experiment.datasets]
    baselines = {row for row in experiment.rows if "baseline" in resolve(experiment, row, {}, chosen_cards[0], path)}
    for row, space in experiment.search.items():
        for address, values in space.items():
            for value in samples(values):
                resolve(experiment, row, {address: value}, chosen_cards[0], path)
    chosen = dict.fromkeys(rows) or experiment.rows
    for row in chosen:
        if row not in experiment.rows:
            raise ConfigError(f"{path}: no row {row!r}. {suggest(row, experiment.rows)}")
    everywhere = dict(overrides or {})
    for_baselines = everywhere
    if not baselines.issuperset(chosen):
        for_baselines = {address: value for address, value in everywhere.items() if not _of_training(address)}
    return [
        Run(path.stem, row, card.name, seed, _on(config, card, f"{path}: rows.{row}"))
        for card in chosen_cards
        for row in chosen
        for config in [resolve(experiment, row, for_baselines if row in baselines else everywhere, card, path)]
        for seed in dict.fromkeys(seeds) or experiment.seeds
    ]


def smoke(run: Run) -> Run:
    """The same run with two epochs at most."""
    if "baseline" in run.config:
        return run
    short = {"max_epochs": 2, "patience": 2, "validate_every": 1}
    return replace(run, config=run.config | {"train": run.config["train"] | short})


def samples(space: Sequence[Any] | Range) -> list[Any]:
    """Values of a search space that stand for all of it: each of a list, both ends of a range."""
    if not isinstance(space, Range):
        return list(space)
    return list(space.uniform or space.log or space.int or ())


def resolve(experiment: Experiment, row: str, overrides: Mapping[str, Any], card: Card, path: Path) -> dict[str, Any]:
    """The complete configuration of a row: base, then the row's overrides, then `overrides`; defaults filled in."""
    where = f"{path}: rows.{row}"
    tree = validate(RunConfig, experiment.base, f"{path}: base").model_dump()
    for changes in (experiment.rows[row], overrides):
        _refuse_lost(changes, where)
        for address, value in changes.items():
            override(tree, address, value, where)
    config = validate(RunConfig, tree, where)
    if config.baseline is not None:
        for address in (*experiment.rows[row], *overrides):
            if _of_training(address):
                raise ConfigError(f"{where}: {address} does nothing here, for the row is a baseline")
    return _check(config, card, where)


def override(tree: dict[str, Any], address: str, value: Any, where: str) -> None:
    """Set the node at a dotted path, in place.

    Raises:
        ConfigError: a part of the path leads nowhere; the message suggests the nearest.
    """
    *parents, leaf = address.split(".")
    node: dict[str, Any] = tree
    for key in parents:
        if key not in node:
            raise ConfigError(f"{where}: {address}: no {key!r} here. {suggest(key, node)}")
        if isinstance(node[key], str):  # a component given by its name alone
            node[key] = {"name": node[key]}
        elif node[key] is None:
            node[key] = {}
        if not isinstance(node[key], dict):
            raise ConfigError(f"{where}: {address}: {key!r} is {node[key]!r} and has no parts")
        node = node[key]
    optional = parents in (["objectives"], ["heads"])
    if node is tree and leaf not in node:
        raise ConfigError(f"{where}: {address}: no {leaf!r} here. {suggest(leaf, node)}")
    if optional and value is None:
        if leaf not in node:
            raise ConfigError(f"{where}: {address}: no {leaf!r} here. {suggest(leaf, node)}")
        del node[leaf]
    else:
        node[leaf] = copy.deepcopy(value)


def _on(config: dict[str, Any], card: Card, where: str) -> dict[str, Any]:
    """A configuration whose dataset has the attributes it reads and the candidates that sampled metrics rank."""
    files = next(iter(card.forms.values())).features
    content = {name: ModalitySettings(**entry) for name, entry in config.get("content", {}).items()}
    try:
        check_columns(content, {"item": kinds("item", files), "user": kinds("user", files)})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if config["evaluate"]["sampled"] and not card.has_candidates(config["split"]["name"]):
        having = [other.name for other in cards.every() if other.has_candidates("official")]
        raise ConfigError(
            f"{where}: evaluate.sampled: dataset {card.name!r} has no stored candidates for its split "
            f"{config['split']['name']!r}; those with candidates for their official split: {', '.join(having)}"
        )
    return config


def _refuse_lost(changes: Mapping[str, Any], where: str) -> None:
    """Refuse a change of a part of what a later change replaces."""
    addresses = list(changes)
    for number, address in enumerate(addresses):
        for later in addresses[number + 1 :]:
            if address.startswith(f"{later}."):
                raise ConfigError(f"{where}: {address} is lost, for {later} after it replaces the whole")


def _of_training(address: str) -> bool:
    return address.split(".")[0] in RECIPE


def _check(config: RunConfig, card: Card, where: str) -> dict[str, Any]:
    """Validate components against their signatures and against each other."""
    known = list(config.evaluate.metrics)
    checked: dict[str, Any] = {
        "evaluate": config.evaluate.model_dump() | {"metrics": known},
        "split": _check_split(config.split, card, where),
        "refit": config.refit,
    }
    if config.baseline is not None:
        baseline = registry.baselines.check(config.baseline, f"{where}: baseline")
        return checked | _content_for(registry.baselines.find(baseline["name"]), config, where) | {"baseline": baseline}
    if config.encoder is None:
        raise ConfigError(f"{where}: set either `encoder` or `baseline`")
    if config.train.monitor not in known:
        raise ConfigError(
            f"{where}: train.monitor: {config.train.monitor!r} is not among evaluate.metrics. "
            f"{suggest(config.train.monitor, known)}"
        )
    if metrics.parse(config.train.monitor)[0] not in metrics.PER_USER:
        raise ConfigError(f"{where}: train.monitor: of {config.train.monitor!r}, more is not better")
    if not config.objectives:
        raise ConfigError(f"{where}: objectives: at least one is needed")
    if "rank" not in config.heads:
        raise ConfigError(f"{where}: heads: one must be called 'rank'; it ranks the catalogue")
    for role in (*config.heads, *config.objectives):
        if not role.isidentifier() or hasattr(nn.ModuleDict, role):
            raise ConfigError(f"{where}: {role!r} cannot name a head or objective; choose another word")
    encoder = registry.encoders.check(config.encoder, f"{where}: encoder", INIT)
    if encoder["init"] is not None:
        dim = encoder["dim"] if "dim" in encoder else encoder["graph"]["dim"]  # of a hybrid
        encoder["init"] = _check_init(encoder["init"], dim, f"{where}: encoder.init")
    _check_built(registry.encoders.find(encoder["name"]).reads, f"{where}: encoder {encoder['name']} reads")
    objectives = {}
    for role, spec in config.objectives.items():
        address = f"{where}: objectives.{role}"
        objectives[role] = checked_spec = registry.objectives.check(spec, address, WEIGHT)
        _check_built(registry.objectives.find(checked_spec["name"]).needs, f"{address} needs")
        _check_view(checked_spec.get("view"), encoder["name"], f"{address}.view")
        head = checked_spec.get("head", "rank")
        if head not in config.heads:
            raise ConfigError(f"{address}.head: no head {head!r}. {suggest(head, config.heads)}")
    return (
        checked
        | _content_for(registry.encoders.find(encoder["name"]), config, where)
        | {
            "encoder": encoder,
            "heads": {
                name: registry.heads.check(spec, f"{where}: heads.{name}") for name, spec in config.heads.items()
            },
            "objectives": objectives,
            "negatives": registry.samplers.check(config.negatives, f"{where}: negatives"),
            "train": config.train.model_dump(),
        }
    )


def _content_for(reader: Any, config: RunConfig, where: str) -> dict[str, Any]:
    """The `content:` block, for what reads it; it is no part of other rows' configurations."""
    if "content" not in reader.reads:
        return {}
    if not config.content:
        raise ConfigError(f"{where}: {reader.__name__} reads content: give a block `content:` with a modality at least")
    return {"content": {name: entry.model_dump() for name, entry in config.content.items()}}


def _check_view(view: Mapping[str, Any] | None, encoder: str, where: str) -> None:
    """Refuse a view that changes nothing the encoder reads."""
    if view is None:
        return
    changes, reads = registry.views.find(view["name"]).changes, registry.encoders.find(encoder).reads | {"perturb"}
    if not changes & reads:
        raise ConfigError(f"{where}: {view['name']} changes {sorted(changes)}, which {encoder} does not read")


def _check_init(spec: Spec, dim: int, where: str) -> dict[str, Any]:
    """A baseline that has vectors, as wide as the encoder's unless it says otherwise."""
    given = {"name": spec} if isinstance(spec, str) else spec
    having = [
        name for name, kind in registry.baselines.components().items() if kind.embeddings is not Baseline.embeddings
    ]
    if isinstance(given, Mapping) and given.get("name") in having:
        given = {"dim": dim, **given}
    checked = registry.baselines.check(given, where)
    if checked["name"] not in having:
        raise ConfigError(f"{where}: {checked['name']!r} has no vectors to start with; these have: {', '.join(having)}")
    return checked


def _check_built(fields: frozenset[str], what: str) -> None:
    if fields - BUILT:
        raise ConfigError(f"{what} {sorted(fields - BUILT)}, which nobody builds; known: {sorted(BUILT)}")


def _check_split(spec: Spec | None, card: Card, where: str) -> dict[str, Any]:
    """The split with the options that the dataset's card gives it, unless the file says otherwise."""
    given = spec if isinstance(spec, Mapping) else {"name": spec} if spec else {}
    given = {"name": card.default_split, **given}
    return registry.splits.check({**card.splits.get(str(given["name"]), {}), **given}, f"{where}: split", SEED)


def _card(name: str, path: Path) -> Card:
    try:
        return cards.find(name)
    except ConfigError as error:
        raise ConfigError(f"{path}: datasets: {error}") from None
