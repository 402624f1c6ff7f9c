"""The base class of all models that rank items, from encoders with heads to classical baselines.

A saved model is a folder with `model.json` (class, sizes, options), `model.safetensors` (parameters, the graph if
scoring needs it, and the pairs of users and items seen), and `users.parquet` and `items.parquet` (original ids and
titles). Loading one needs neither the dataset nor the experiment file, and runs no pickled code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from polars.exceptions import PolarsError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recgraph.data.interactions import Interactions, Vocabulary
from recgraph.errors import ConfigError, DataError
from recgraph.files import replacing, write_json
from recgraph.random import isolated
from recgraph.registry import locate

Scorer = Callable[[Int[Tensor, "batch"]], Float[Tensor, "batch items"]]


class Recommendation(NamedTuple):
    """One recommended item: its original id, its title (or None) and its score."""

    item: Any
    title: str | None
    score: float


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Maps indices to original ids and titles, and lists the items that users have seen.

    Attributes:
        users: original user ids.
        items: original item ids.
        titles: a title per item, None for an item without one; or None if no item has one.
        seen_users, seen_items: pairs of indices that are never recommended (training and validation positives).
    """

    users: Vocabulary
    items: Vocabulary
    titles: Sequence[str | None] | None
    seen_users: Int[Tensor, "pairs"]
    seen_items: Int[Tensor, "pairs"]


class Model(nn.Module):
    """Scores every item for a user.

    Subclasses implement `scorer`, and `options`, from which `rebuild` makes the same model.

    Args:
        num_users: size of the user catalogue.
        num_items: size of the item catalogue.
    """

    catalogue: Catalogue | None = None

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__()
        self.num_users, self.num_items = num_users, num_items

    def scorer(self) -> Scorer:
        """A function from user indices [batch] to scores [batch, items].

        Computation that does not depend on the user, such as propagation over the graph, is done once, here.
        """
        raise NotImplementedError

    def observe(self, interactions: Interactions) -> None:
        """Set all interactions that users have had so far; without effect on models whose scores do not need them."""

    def options(self) -> dict[str, Any]:
        """Options as JSON, from which `rebuild` makes the model."""
        raise NotImplementedError

    @classmethod
    def rebuild(cls, num_users: int, num_items: int, options: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """A model of the given sizes and options, made from `extra_tensors`; its parameters are loaded afterwards."""
        raise NotImplementedError

    def extra_tensors(self) -> dict[str, Tensor]:
        """Tensors other than parameters that scoring needs, to be passed to `rebuild`."""
        return {}

    @property
    def device(self) -> torch.device:
        """The device of the model's tensors."""
        return next(chain(self.parameters(), self.buffers())).device

    def recommend(self, user: Any, k: int = 10) -> list[Recommendation]:
        """The `k` best items for a user, by original id, without those the user has seen.

        Raises:
            ConfigError: `k` is below 1.
            DataError: the user is unknown, or the model has no catalogue.
        """
        if k < 1:
            raise ConfigError(f"k: expected at least 1, got {k}")
        catalogue = self._known()
        index = int(catalogue.users.encode([user])[0])
        with torch.no_grad():
            scores = self.eval().scorer()(torch.tensor([index], device=self.device))[0].float().cpu()
        scores = scores.clone()  # the scorer may return the model's own memory
        scores[catalogue.seen_items[catalogue.seen_users == index]] = -torch.inf
        values, items = scores.sort(descending=True, stable=True)
        best = [
            (int(item), float(value)) for item, value in zip(items[:k], values[:k], strict=True) if value > -torch.inf
        ]
        ids = catalogue.items.decode([item for item, _ in best]).tolist()
        titles = catalogue.titles or [None] * self.num_items
        return [Recommendation(id_, titles[item], value) for id_, (item, value) in zip(ids, best, strict=True)]

    def save(self, folder: Path | str) -> None:
        """Write the model into `folder`; each file is replaced atomically."""
        folder, catalogue = Path(folder), self._known()
        kind = f"{type(self).__module__}:{type(self).__qualname__}"
        sizes = {"num_users": self.num_users, "num_items": self.num_items}
        header = {"class": kind, **sizes, "options": self.options()}  # may be refused: before anything is replaced
        tensors = {f"state.{name}": value for name, value in self.state_dict().items()}
        tensors |= {f"extra.{name}": value for name, value in self.extra_tensors().items()}
        tensors |= {"seen.users": catalogue.seen_users, "seen.items": catalogue.seen_items}
        with replacing(folder / "model.safetensors") as temporary:
            # Cloned, because the format refuses tensors that share memory.
            save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, temporary)
        titles = pl.Series(catalogue.titles or [None] * self.num_items, dtype=pl.String)
        items = pl.DataFrame({"id": catalogue.items.series, "title": titles})
        for name, frame in (("users", pl.DataFrame({"id": catalogue.users.series})), ("items", items)):
            with replacing(folder / f"{name}.parquet") as temporary:
                frame.write_parquet(temporary)
        write_json(folder / "model.json", header)

    @classmethod
    def load(cls, folder: Path | str, *, device: torch.device | str = "cpu") -> Self:
        """Load a model that `save` wrote, of this class or a subclass.

        Nothing is unpickled. The modules of the classes named in the folder are imported.

        Raises:
            DataError: `folder` contains no model, a damaged one, or one of another class.
        """
        folder = Path(folder)
        if not (folder / "model.json").is_file():
            raise DataError(f"{folder}: no model.json here; expected the folder of a finished run")
        try:
            model = cls._read(folder)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, PolarsError) as error:
            if isinstance(error, DataError):
                raise
            missing = isinstance(error.__cause__, ImportError)
            what = "a module of it is not on Python's path" if missing else "the saved model is damaged"
            if isinstance(error, RuntimeError | TypeError):  # of `load_state_dict`, or of an option that is gone
                what = "the saved model is damaged, or its classes have changed since"
            raise DataError(f"{folder}: {what}: {' '.join(str(error).split())}") from error
        return model.to(device).eval()

    @classmethod
    def _read(cls, folder: Path) -> Self:
        header = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        kind = locate(header["class"])
        if not (isinstance(kind, type) and issubclass(kind, cls)):
            raise DataError(f"{folder}: holds a {header['class']}, expected a {cls.__name__}")
        groups: dict[str, dict[str, Tensor]] = {"state": {}, "extra": {}, "seen": {}}
        for key, value in load_file(folder / "model.safetensors").items():
            group, _, key = key.partition(".")
            groups[group][key] = value
        sizes = int(header["num_users"]), int(header["num_items"])
        with isolated(0, "load"):  # initial values are drawn, then overwritten
            model = kind.rebuild(*sizes, header["options"], groups["extra"])
        model.load_state_dict(groups["state"])
        items = pl.read_parquet(folder / "items.parquet", glob=False)  # folders are named after rows: "a [b]"
        model.catalogue = Catalogue(
            users=Vocabulary(pl.read_parquet(folder / "users.parquet", glob=False)["id"]),
            items=Vocabulary(items["id"]),
            titles=None if items["title"].null_count() == len(items) else items["title"].to_list(),
            seen_users=groups["seen"]["users"],
            seen_items=groups["seen"]["items"],
        )
        return model

    def _known(self) -> Catalogue:
        if self.catalogue is None:
            raise DataError("this model has no catalogue: load it from a run, or set `catalogue` first")
        return self.catalogue


def catalogue_of(train: Interactions, seen: list[Interactions], titles: Sequence[str | None] | None) -> Catalogue:
    """The catalogue of a model that is trained on `train` and must not recommend the pairs in `seen`."""
    users = np.concatenate([part.user_indices for part in seen])
    items = np.concatenate([part.item_indices for part in seen])
    return Catalogue(train.users, train.items, titles, torch.from_numpy(users), torch.from_numpy(items))
