"""The task of a model: a split dataset, with the evaluation of models on it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recgraph.data import datasets
from recgraph.data.audit import audit
from recgraph.data.cards import data_root
from recgraph.data.clicks import ClickSettings, context_of, labelled, outcomes
from recgraph.data.content import Pipeline, content_of
from recgraph.data.features import Features
from recgraph.data.interactions import Interactions
from recgraph.data.label_settings import LabelSettings
from recgraph.data.labels import LabelData, Part, labels_of
from recgraph.data.modalities import ModalitySettings
from recgraph.data.splits import Split
from recgraph.data.used import attributes_fingerprint
from recgraph.environment import keep_freed_memory
from recgraph.errors import ConfigError, DataError
from recgraph.evaluation.clicks import judge_clicks
from recgraph.evaluation.diagnostics import diagnose
from recgraph.evaluation.groups import by_group
from recgraph.evaluation.metrics import parse, scope
from recgraph.evaluation.prediction import Predictions
from recgraph.evaluation.ranking import Evaluation, evaluate, judge, top_k
from recgraph.evaluation.scopes import evaluate_scopes
from recgraph.experiments.labelling import predictions
from recgraph.experiments.relations import RelationSettings, links_of
from recgraph.files import digest
from recgraph.graph.links import Links
from recgraph.models.blend import Blend
from recgraph.models.model import Model
from recgraph.models.recommender import Recommender
from recgraph.types import Content

SWEEP_USERS = 64
"""Users whose scores are blended at once: 120 MB for 11 weights and 40,000 items."""


class Task:
    """A split dataset, and the evaluation of models on it.

    Args:
        split: a split with its three parts.
        device: where models are.
        titles: titles of items, if the dataset has them.
        features: attributes of users and items, if the dataset has them.
        cache: folder of the prepared dataset, if there is one.
        sealed: drop the test part, so that nothing here can read it.
        clicks: predict the rows of each part instead of ranking.

    Attributes:
        split_name: name of the split.
        fingerprint: fingerprint of its three parts together.
        train, validation: two of its parts; `had` has both with the rows that clicks drop.
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
        clicks: ClickSettings | None = None,
    ) -> None:
        keep_freed_memory()
        if not len(split.validation):
            raise DataError(f"the validation part of split {split.name} is empty; epochs and settings are chosen on it")
        self.had = [split.train, split.validation]
        if clicks is not None:
            split = labelled(split, clicks)
        self.clicks, self.split_name, self.fingerprint = clicks, split.name, split.fingerprint
        self.train, self.validation = split.train, split.validation
        self._test = None if sealed else split.test
        self._candidates = None if sealed else split.candidates
        self.audit = None if sealed else audit(split)
        self.titles, self.device, self._features, self._cache = titles, device, features, cache
        self._labels: dict[tuple[str, bool], LabelData] = {}  # the last ones: fitting texts takes longer than an epoch

    @classmethod
    def load(
        cls,
        dataset: str,
        split: Mapping[str, Any],
        device: torch.device,
        *,
        sealed: bool = False,
        clicks: ClickSettings | None = None,
    ) -> Task:
        """The task of a configuration.

        Args:
            dataset: name of the dataset.
            split: the resolved `split:` block.
            device, sealed, clicks: as above.
        """
        loaded = datasets.load(dataset)
        parts = loaded.split({key: value for key, value in split.items() if key != "seed"}, seed=split["seed"])
        items = loaded.features.items.frame
        titles = items["title"].to_list() if "title" in items.columns else None
        try:
            more: dict[str, Any] = {"titles": titles, "features": loaded.features, "cache": loaded.folder}
            return cls(parts, device, **more, sealed=sealed, clicks=clicks)
        except DataError as error:
            raise DataError(f"dataset {dataset}: {error}") from None

    def content(self, settings: Mapping[str, Any], train: Interactions) -> tuple[Content, Pipeline]:
        """Content of users and items, and the pipeline that computes it from attributes.

        Args:
            settings: the resolved `content:` block.
            train: the pipeline is fitted only on users and items with interactions here.
        """
        if self._features is None:
            raise DataError("content: this task has no features of users or items")
        entries = {name: ModalitySettings(**entry) for name, entry in settings.items()}
        return content_of(
            entries,
            self._features,
            known_users=np.bincount(train.user_indices, minlength=train.num_users) > 0,
            known_items=np.bincount(train.item_indices, minlength=train.num_items) > 0,
            root=data_root(),
            cache=self._cache,
        )

    def attributes(self, config: Mapping[str, Any]) -> str | None:
        """Fingerprint of the attributes that a configuration names, or None; they are not part of `fingerprint`."""
        return None if self._features is None else attributes_fingerprint(config, self._features, data_root())

    def trained_on(self, config: Mapping[str, Any]) -> str:
        """Fingerprint of everything that a run trains on: the split, and the attributes that it names, if any."""
        attributes = self.attributes(config)
        return self.fingerprint if attributes is None else digest([self.fingerprint, attributes], 64)

    def parts(self) -> dict[Part, Interactions]:
        """The parts of the split; without the test part if the task is sealed."""
        found: dict[Part, Interactions] = {"train": self.train, "validation": self.validation}
        return found if self._test is None else found | {"test": self._test}

    def labels(self, settings: Mapping[str, Any], *, seed: int, refit: bool = False) -> dict[str, LabelData]:
        """Labels to be predicted besides rankings; without test labels if the task is sealed.

        Args:
            settings: the resolved `labels:` block.
            seed: seed of the split.
            refit: whether training sees validation labels as well.
        """
        learn: tuple[Part, ...] = ("train", "validation") if refit else ("train",)
        keys = {name: digest([entry, seed]) for name, entry in settings.items()}
        self._labels = {key: label for key, label in self._labels.items() if key[0] in keys.values()}
        for name, key in keys.items():
            if (key, refit) not in self._labels:
                entry = {name: LabelSettings(**settings[name])}
                self._labels[key, refit] = labels_of(entry, self._features, self.parts(), seed=seed, learn=learn)[name]
        return {name: self._labels[key, refit] for name, key in keys.items()}

    def predict(self, model: Recommender, labels: Mapping[str, LabelData], part: Part) -> dict[str, Predictions]:
        """A model's predictions for the labels of a part, after observing the interactions of the parts before it."""
        model.observe(self.train if part == "validation" else self.train_and_validation)
        return predictions(model, labels, part)

    def links(
        self, settings: Mapping[str, Any], train: Interactions, content: Content | None
    ) -> tuple[Links | None, Links | None]:
        """Links among users and among items.

        Args:
            settings: the resolved `relations:` block.
            train: only users and items with interactions here can be neighbours in content.
            content: what `content` returned for it.
        """
        if self._features is None:
            raise DataError("relations: this task has no features of users or items")
        entries = {name: RelationSettings(**entry) for name, entry in settings.items()}
        return links_of(entries, self._features, content, train)

    @cached_property
    def train_and_validation(self) -> Interactions:
        """Train and validation together, for refitting and as the history for test."""
        return self.train.concat(self.validation)

    def validate(self, model: Model, metrics: Sequence[str]) -> Evaluation:
        """Rank for the users with validation items; training positives are masked and make the histories.

        For clicks, predict the rows of validation instead.
        """
        model.observe(self.train)
        if self.clicks is not None:
            return self._predict(model, metrics, self.validation)
        return self._rank(model, metrics, self._validation, self._train)

    def sweep(self, model: Blend, weights: Sequence[float], metric: str) -> dict[float, float]:
        """A whole-catalogue metric on validation for several weights of a blend, whose models score each user once."""
        model.observe(self.train)
        users = np.flatnonzero(np.diff(self._validation.indptr)).repeat(len(weights))
        with torch.no_grad():
            scores = model.eval().sweep(weights)
            some = torch.from_numpy(users).to(self.device)
            lists = top_k(scores, some, self._train, parse(metric)[2], chunk=SWEEP_USERS * len(weights))
        values = judge(lists, self._validation[users], [metric])[metric].reshape(-1, len(weights))
        return dict(zip(weights, values.mean(0).tolist(), strict=True))

    def test(self, model: Model, metrics: Sequence[str], *, sampled: bool = False) -> Evaluation:
        """Rank for the users with test items; training and validation positives are masked and make the histories.

        For clicks, predict the rows of test instead.

        Args:
            model, metrics: the model to evaluate, and its metrics.
            sampled: rank stored candidates only; the metrics' names say so.

        Raises:
            DataError: the task is sealed, or has no stored candidates.
        """
        if self.clicks is not None:
            model.observe(self.train_and_validation)
            return self._predict(model, metrics, self._unsealed)
        relevant = self._test_matrix
        if sampled and self._candidates is None:
            raise DataError(f"split {self.split_name} has no stored candidates, and none are drawn")
        candidates = self._candidates if sampled else None
        model.observe(self.train_and_validation)
        return self._rank(model, metrics, relevant, self._train + self._validation, candidates)

    def groups(self, test: Evaluation) -> dict[str, dict[str, float]]:
        """Metrics of a test ranking by group of users and of items (see `by_group`); empty for clicks."""
        if self.clicks is not None:
            return {}
        whole = {name: values for name, values in test.per_user.items() if scope(name) is None}
        return by_group(replace(test, per_user=whole), train=self._train, test=self._test_matrix)

    def diagnose(self, model: Recommender) -> dict[str, float]:
        """Diagnostics of an encoder's vectors (`recgraph.evaluation.diagnostics`), on the training part."""
        model.observe(self.train)
        pairs = (torch.from_numpy(side).to(self.device) for side in (self.train.user_indices, self.train.item_indices))
        with torch.no_grad():
            encoding = model.eval().encode_all()
        return diagnose(encoding.query, encoding.items, *pairs)

    @property
    def _unsealed(self) -> Interactions:
        if self._test is None:
            raise DataError("the test part is sealed: nothing may look at it while settings are being chosen")
        return self._test

    @cached_property
    def _test_matrix(self) -> Any:
        return self._unsealed.csr()

    @cached_property
    def _train(self) -> Any:
        return self.train.csr()

    @cached_property
    def _validation(self) -> Any:
        return self.validation.csr()

    def _predict(self, model: Model, metrics: Sequence[str], table: Interactions) -> Evaluation:
        """Predict the labels of a part, row by row, and evaluate them."""
        if not isinstance(model, Recommender):
            raise ConfigError(f"{type(model).__name__} ranks, and cannot tell how likely a click is")
        started = time.perf_counter()
        context = context_of(table) if "context" in model.encoder.reads else None
        users, labels = table.user_indices, outcomes(table)
        with torch.no_grad():
            rows = torch.from_numpy(users), torch.from_numpy(table.item_indices)
            scores = model.eval().predict(*rows, context).double().cpu().numpy()
        return judge_clicks(scores, labels, users, metrics, num_users=table.num_users, started=started)

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
