"""What a model is asked to do: a dataset and split, with the matrices that ranking on it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from recgraph import registry
from recgraph.blend import Blend
from recgraph.data import datasets
from recgraph.data.audit import audit
from recgraph.data.cards import data_root
from recgraph.data.content import Pipeline, content_of
from recgraph.data.features import Attributes, Features
from recgraph.data.interactions import Interactions
from recgraph.data.label_settings import LabelSettings
from recgraph.data.labels import LabelData, Part, labels_of
from recgraph.data.modalities import ModalitySettings
from recgraph.data.splits import Split
from recgraph.environment import keep_freed_memory
from recgraph.errors import DataError
from recgraph.evaluation.diagnostics import diagnose
from recgraph.evaluation.groups import by_group
from recgraph.evaluation.metrics import parse, scope
from recgraph.evaluation.prediction import Predictions
from recgraph.evaluation.ranking import Evaluation, evaluate, judge, top_k
from recgraph.evaluation.scopes import evaluate_scopes
from recgraph.labelling import predictions
from recgraph.model import Model
from recgraph.random import numpy_generator
from recgraph.recommender import Recommender
from recgraph.types import Content

SWEEP_USERS = 64
"""Users whose scores are blended at a time: 120 MB for 11 weights and 40,000 items."""


class Task:
    """A split dataset, and the matrices that ranking on it needs.

    Args:
        split: its three parts.
        device: where models are.
        titles: of items, where the dataset has them.
        features: attributes of users and items, where the dataset has them.
        cache: folder of the prepared dataset, if there is one.
        sealed: forget the test part, so that nothing here can look at it.

    Attributes:
        split_name: of the split.
        fingerprint: of its three parts together.
        train, validation: two of its parts.
        audit: how the parts differ (`recgraph.data.audit`); None if sealed.

    Raises:
        DataError: the validation part is empty.
    """

    def __init__(
        self,
        split: Split,
        device: torch.device,
        *,
        titles: Sequence[str | None] | None = None,
        features: Features | None = None,
        cache: Path | None = None,
        sealed: bool = False,
    ) -> None:
        keep_freed_memory()
        if not len(split.validation):
            raise DataError(f"the validation part of split {split.name} is empty; it must choose the epoch")
        self.split_name, self.fingerprint = split.name, split.fingerprint
        self.train, self.validation = split.train, split.validation
        self._test = None if sealed else split.test
        self._candidates = None if sealed else split.candidates
        self.audit = None if sealed else audit(split)
        self.titles, self.device, self._features, self._cache = titles, device, features, cache
        self._toy = False

    @classmethod
    def load(cls, dataset: str, split: Mapping[str, Any], device: torch.device, *, sealed: bool = False) -> Task:
        """The task of a configuration.

        Args:
            dataset: name of the dataset.
            split: the resolved `split:` block.
            device, sealed: as above.
        """
        loaded = datasets.load(dataset)
        parts = loaded.split({key: value for key, value in split.items() if key != "seed"}, seed=split["seed"])
        items = loaded.features.items.frame
        titles = items["title"].to_list() if "title" in items.columns else None
        try:
            return cls(parts, device, titles=titles, features=loaded.features, cache=loaded.folder, sealed=sealed)
        except DataError as error:
            raise DataError(f"dataset {dataset}: {error}") from None

    @classmethod
    def toy(cls, device: torch.device) -> Task:
        """60 users and 40 items in four groups that like their own: to see that something runs, in no time."""
        generator = numpy_generator(0, "toy")
        same_group = np.arange(60)[:, None] % 4 == np.arange(40) % 4
        liked = np.argwhere(generator.random((60, 40)) < np.where(same_group, 0.7, 0.05))
        own = same_group[liked[:, 0], liked[:, 1]]
        told = {"rating": np.where(own, 5.0, 1.0), "review": np.where(own, "fine sound", "poor sound")}
        table = Interactions.from_frame(pl.DataFrame({"user": liked[:, 0], "item": liked[:, 1], **told}))
        groups = (table.users.series, table.items.series)
        features = (Attributes(pl.DataFrame({"id": ids, "group": ids % 4}), {"group": "categorical"}) for ids in groups)
        made = cls(registry.splits.build("warm_and_cold", table, generator), device, features=Features(*features))
        made._toy = True
        return made

    def content(self, settings: Mapping[str, Any], train: Interactions) -> tuple[Content, Pipeline]:
        """What users and items are, and what makes it of attributes.

        Args:
            settings: the resolved `content:` block; of a toy, modalities may have any columns, and get its groups.
            train: whose users and items it is fitted on; of others nothing is looked at.
        """
        if self._features is None:
            raise DataError("content: this task has no features of users or items")
        entries = {name: ModalitySettings(**entry) for name, entry in settings.items()}
        if self._toy:
            entries = {name: ModalitySettings(columns=("group",), side=one.side) for name, one in entries.items()}
        return content_of(
            entries,
            self._features,
            known_users=np.bincount(train.user_indices, minlength=train.num_users) > 0,
            known_items=np.bincount(train.item_indices, minlength=train.num_items) > 0,
            root=data_root(),
            cache=self._cache,
        )

    def parts(self) -> dict[Part, Interactions]:
        """The parts of the split; without the test part if the task is sealed."""
        found: dict[Part, Interactions] = {"train": self.train, "validation": self.validation}
        return found if self._test is None else found | {"test": self._test}

    def labels(self, settings: Mapping[str, Any], *, seed: int, refit: bool = False) -> dict[str, LabelData]:
        """What is to be predicted beside rankings; without test labels if the task is sealed.

        Args:
            settings: the resolved `labels:` block; of a toy, labels may be of any feature, and are of its groups.
            seed: of the split.
            refit: whether training sees validation labels as well.
        """
        entries = {name: LabelSettings(**entry) for name, entry in settings.items()}
        if self._toy:
            groups = {"feature": "group", "bands": (), "around": None, "unknown": ()}
            stars: dict[str, Any] = {"feature": "rating", "bands": ()}
            entries = {
                name: one.model_copy(
                    update=groups
                    if one.of != "interaction"
                    else stars | {"around": 3.0 if one.bands or one.around is not None else None}
                )
                for name, one in entries.items()
            }
        learn: tuple[Part, ...] = ("train", "validation") if refit else ("train",)
        return labels_of(entries, self._features, self.parts(), seed=seed, learn=learn)

    def predict(self, model: Recommender, labels: Mapping[str, LabelData], part: Part) -> dict[str, Predictions]:
        """What a model's heads say of the labels of a part, from what had happened before it."""
        model.observe(self.train if part == "validation" else self.train_and_validation)
        return predictions(model, labels, part)

    @cached_property
    def train_and_validation(self) -> Interactions:
        """Both, for a last fit."""
        return self.train.concat(self.validation)

    def validate(self, model: Model, metrics: Sequence[str]) -> Evaluation:
        """Rank for the users with validation items; training positives are masked, and all that histories hold."""
        model.observe(self.train)
        return self._rank(model, metrics, self._validation, self._train)

    def sweep(self, model: Blend, weights: Sequence[float], metric: str) -> dict[float, float]:
        """A per-user metric on validation for each of several weights of a blend, from one scoring by its models."""
        model.observe(self.train)
        users = np.flatnonzero(np.diff(self._validation.indptr)).repeat(len(weights))
        with torch.no_grad():
            scores = model.eval().sweep(weights)
            some = torch.from_numpy(users).to(self.device)
            lists = top_k(scores, some, self._train, parse(metric)[2], chunk=SWEEP_USERS * len(weights))
        values = judge(lists, self._validation[users], [metric])[metric].reshape(-1, len(weights))
        return dict(zip(weights, values.mean(0).tolist(), strict=True))

    def test(self, model: Model, metrics: Sequence[str], *, sampled: bool = False) -> Evaluation:
        """Rank for the users with test items; training and validation positives are masked, and make histories.

        Args:
            model, metrics: what to rank with, and how to measure.
            sampled: rank stored candidates only; the metrics' names say so.

        Raises:
            DataError: the task is sealed, or has no candidates to rank.
        """
        relevant = self._test_matrix
        if sampled and self._candidates is None:
            raise DataError(f"split {self.split_name} has no stored candidates, and none are drawn")
        candidates = self._candidates if sampled else None
        model.observe(self.train_and_validation)
        return self._rank(model, metrics, relevant, self._train + self._validation, candidates)

    def groups(self, test: Evaluation) -> dict[str, dict[str, float]]:
        """Metrics of a ranking for test by group of users and of items (see `by_group`)."""
        whole = {name: values for name, values in test.per_user.items() if scope(name) is None}
        return by_group(replace(test, per_user=whole), train=self._train, test=self._test_matrix)

    def diagnose(self, model: Recommender) -> dict[str, float]:
        """How the vectors of a trained encoder lie (`recgraph.evaluation.diagnostics`), by the training part."""
        model.observe(self.train)
        pairs = (torch.from_numpy(side).to(self.device) for side in (self.train.user_indices, self.train.item_indices))
        with torch.no_grad():
            encoding = model.eval().encode_all()
        return diagnose(encoding.query, encoding.items, *pairs)

    @cached_property
    def _test_matrix(self) -> Any:
        if self._test is None:
            raise DataError("the test part is sealed: nothing may look at it while settings are being chosen")
        return self._test.csr()

    @cached_property
    def _train(self) -> Any:
        return self.train.csr()

    @cached_property
    def _validation(self) -> Any:
        return self.validation.csr()

    def _rank(
        self, model: Model, metrics: Sequence[str], relevant: Any, seen: Any, candidates: Any = None
    ) -> Evaluation:
        with torch.no_grad():
            ranking = evaluate_scopes if any(map(scope, metrics)) else evaluate
            return ranking(
                model.eval().scorer(),
                test=relevant,
                seen=seen,
                candidates=candidates,
                metrics=metrics,
                popularity=self._train.sum(axis=0).A1,
                device=self.device,
                chunk=4096 if self.device.type == "cuda" else None,  # a GPU needs many rows at once to be busy
            )
