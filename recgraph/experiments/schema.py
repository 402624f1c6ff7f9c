"""Experiment files: a table of runs as one YAML tree, in which every hyper-parameter has one dotted address.

source: https://...                     where the settings come from
datasets: [ml-100k]
seeds: [0, 1, 2]
base: {encoder: lightgcn, ...}          a run, see `RunConfig`
rows:                                   row = base + overrides by dotted path
  LightGCN: {}
  two layers: {encoder.num_layers: 2}
  no L2: {objectives.l2: null}          null removes an objective, head, modality, label or relation
  popularity: {baseline: popularity}    a baseline replaces encoder, heads, objectives and training
against: LightGCN                       the row that the others are compared with, user by user
published: {ml-100k: {LightGCN: {source: ..., metrics: {ndcg@10: 0.3}}}}
search: {LightGCN: {train.lr: {log: [1.0e-4, 1.0e-2]}, encoder.num_layers: [1, 2, 3]}}
ablate: {one_at_a_time: {encoder.num_layers: [1, 2]}, grid: {...}}     instead of several rows
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from recgraph.data.clicks import ClickSettings
from recgraph.data.label_settings import LabelSettings
from recgraph.data.modalities import ModalitySettings
from recgraph.errors import suggest
from recgraph.evaluation import metrics
from recgraph.experiments.relations import RelationSettings
from recgraph.experiments.spaces import space
from recgraph.sampling.sequences import Targets
from recgraph.training.settings import TrainSettings

Spec = str | dict[str, Any]
"""A component: its name, or a mapping with `name` and its keyword arguments."""


class EvaluateSettings(BaseModel):
    """The `evaluate:` block."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("recall@10", "ndcg@10", "recall@20", "ndcg@20")
    parity: bool = False
    """Also rank on test at each validation, and report the best epoch there beside the honest figure, since many papers
    choose theirs so. It affects nothing else."""
    sampled: bool = False
    """On test, rank only the candidates stored with the dataset, for comparison with published figures. Test metrics
    are then named as in hit@10:sampled-99; validation ranks the whole catalogue, under plain names."""

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            metrics.parse(name)
            if metrics.num_sampled(name):
                raise ValueError(f"{name}: give plain names and set `sampled: true`, which adds the rest")
        return value

    @model_validator(mode="after")
    def _one_way_to_test(self) -> EvaluateSettings:
        if self.parity and self.sampled:
            raise ValueError("parity picks the epoch by full rankings for test, which `sampled` has none of")
        if self.sampled and any(map(metrics.scope, self.metrics)):
            raise ValueError("metrics of warm or cold items rank the catalogue, which `sampled` does not")
        return self


class BlendSettings(BaseModel):
    """The `blend:` block: a baseline whose scores are blended with the trained encoder's (`recgraph.models.blend`)."""

    model_config = ConfigDict(extra="forbid")

    baseline: Spec
    weight: Annotated[float, Field(ge=0, le=1)] | None = None
    """Weight of the baseline's scores; null to choose the best of 0, 0.1 ... 1 on validation, after training."""


class SequenceSettings(BaseModel):
    """The `sequences:` block, for encoders that read histories."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    targets: Targets = "every"
    """Which items of a history are predicted: "every" one from those before it; the "last" of each prefix, which is
    then a row of its own; or those that are "masked" (see `SequenceBatches`)."""


class RunConfig(BaseModel):
    """One run: its components, its training and its evaluation."""

    model_config = ConfigDict(extra="forbid")

    split: Spec | None = None
    """null for the default split of the dataset's card. Its `seed` is not the run's: all seeds share one split."""
    clicks: ClickSettings | None = None
    """Predict labelled rows instead of ranking the catalogue."""
    content: dict[str, ModalitySettings] = {}
    """Modalities by name: features of users and items, for the rows that read them."""
    labels: dict[str, LabelSettings] = {}
    """Labels by name, for the objectives `label` that predict them."""
    relations: dict[str, RelationSettings] = {}
    """Links among users or items by name, added to the training graph, for the rows that read it."""
    encoder: Spec | None = None
    sharing: Spec | None = None
    """Experts between the encoder and all heads (mmoe, ple); null for hard sharing."""
    balance: Spec | None = None
    """How the losses of ranking and labels are weighted (uncertainty, gradnorm, pcgrad); null for fixed weights."""
    heads: dict[str, Spec] = {"rank": "dot"}
    objectives: dict[str, Spec] = {}
    """Each takes a `weight` (1 by default) in addition to its own arguments."""
    negatives: Spec = "uniform"
    sequences: SequenceSettings = SequenceSettings()
    baseline: Spec | None = None
    blend: BlendSettings | None = None
    pretrained: dict[str, str] = {}
    """Part of the head neumf (gmf, mlp) -> the row of the file that initialises it, trained first. Overrides on the
    command line also apply to these rows."""
    refit: bool = False
    """Once the epoch is chosen, train again on train and validation together for as many epochs, and test that
    model."""
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()

    @field_validator("content", "labels", "relations", mode="before")
    @classmethod
    def _may_be_null(cls, value: Any) -> Any:
        return {} if value is None else value


def _check_figure(metric: str, figure: float) -> None:
    """Reject metrics that do not exist, and figures in percent."""
    if metrics.direction(metric) == 1 and figure > 1:
        raise ValueError(f"{metric} is {figure:g}; expected at most 1: {figure:g}% is {figure / 100:g}")


class Published(BaseModel):
    """Published figures for a row on a dataset, with the place where they were read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    on_test: bool = False
    """Their epoch or settings were chosen on the test set."""
    metrics: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(min_length=1)
    """Above 0, for tables give our relative difference from them."""

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: dict[str, float]) -> dict[str, float]:
        for name, figure in value.items():
            _check_figure(name, figure)
        return value


class Ablation(BaseModel):
    """The `ablate:` block: rows that change settings of the base row."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    one_at_a_time: dict[str, list[Any]] = {}
    """Dotted path -> values; each is a row. null removes an objective, head, modality, label or relation."""
    grid: dict[str, list[Any]] = {}
    """Dotted path -> values; each combination is a row."""

    def rows(self) -> dict[str, dict[str, Any]]:
        """Row name -> overrides."""
        changes = [{path: value} for path, values in self.one_at_a_time.items() for value in values]
        if self.grid:
            changes += [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]
        named = {" ".join(f"{path}={_label(value)}" for path, value in change.items()): change for change in changes}
        if len(named) < len(changes):
            raise ValueError("ablate: two rows have the same values, or values of the same name")
        return named


class Experiment(BaseModel):
    """An experiment file."""

    model_config = ConfigDict(extra="forbid")

    source: str = ""
    datasets: list[str] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    base: dict[str, Any] = {}
    rows: dict[str, dict[str, Any]] = Field({"base": {}}, min_length=1)
    against: str | None = None
    """The row that the others are compared with, user by user."""
    published: dict[str, dict[str, Published]] = {}
    """Dataset -> row -> figures."""
    marks: dict[str, dict[str, list[Annotated[float, Field(gt=0)]]]] = {}
    """Dataset -> metric -> test figures; tables give the seconds of training until they are reached."""
    search: dict[str, dict[str, Annotated[Any, AfterValidator(space)]]] = {}
    """Row -> dotted path -> values, or a `Range`: what `recgraph tune` may try."""
    ablate: Ablation | None = None
    """Rows derived from the only row, with which they are compared."""

    @model_validator(mode="after")
    def _known_names(self) -> Experiment:
        if self.ablate is not None:
            if len(self.rows) != 1:
                raise ValueError("with `ablate` there is one row, the one that is changed")
            (base,) = self.rows
            if self.against not in (None, base):
                raise ValueError(f"against: with `ablate`, rows are compared with {base!r}; take `against` out")
            self.against = base
            self.rows = self.rows | {row: {**self.rows[base], **changes} for row, changes in self.ablate.rows().items()}
            self._names(self.rows)
        for where, name in (
            *(("published", name) for name in self.published),
            *(("marks", name) for name in self.marks),
        ):
            if name not in self.datasets:
                raise ValueError(f"{where}: {name!r} is not among `datasets`: {', '.join(self.datasets)}")
        named: dict[str, Iterable[str]] = {f"published.{name}": rows for name, rows in self.published.items()}
        named |= {"search": self.search, "against": [] if self.against is None else [self.against]}
        for where, rows in named.items():
            for row in rows:
                if row not in self.rows:
                    raise ValueError(f"{where}: no row {row!r}. {suggest(row, self.rows)}")
        return self

    @field_validator("marks")
    @classmethod
    def _of_metrics(cls, value: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
        for marks in value.values():
            for name, figures in marks.items():
                _check_figure(name, max(figures, default=0))
                if metrics.direction(name) != 1:
                    raise ValueError(f"of {name} more is not better, so that training does not rise to a mark")
        return value

    @field_validator("rows", mode="before")
    @classmethod
    def _may_be_empty(cls, value: Any) -> Any:
        return {row: {} if one is None else one for row, one in value.items()} if isinstance(value, dict) else value

    @field_validator("datasets", "seeds")
    @classmethod
    def _once(cls, value: list[Any]) -> list[Any]:
        if len(set(value)) < len(value):
            raise ValueError("one stands twice, and would count twice in every mean")
        return value

    @field_validator("rows")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        folders: dict[str, str] = {}
        for row in value:
            if "," in row or folder_name(row) in ("", ".", ".."):
                raise ValueError(f"the row name {row!r} cannot be listed by commas or be a folder")
            other = folders.setdefault(folder_name(row), row)
            if other != row:
                raise ValueError(f"the rows {other!r} and {row!r} would share the folder {folder_name(row)!r}")
        return value


def _label(value: Any) -> str:
    """A value as part of a row's name, which must not contain commas."""
    if isinstance(value, dict):
        return " ".join(_label(part) if key == "name" else f"{key}={_label(part)}" for key, part in value.items())
    if isinstance(value, list):
        return "-".join(map(_label, value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def folder_name(row: str) -> str:
    """Name of the folder of a row's runs."""
    return row.replace("/", "_").replace(" ", "_")
