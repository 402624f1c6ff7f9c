"""Content of users and items: the pipeline that turns a dataset's attributes into modalities, and its output.

The pipeline is fitted only on users and items with training interactions. So cold items, whether from the test part or
added after training, pass through the same functions as all others and have no influence on them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from recgraph.data.features import Features, Kind, Side
from recgraph.data.modalities import FittedModality, ModalitySettings, fit_modality, own_kinds
from recgraph.data.vectors import read_vectors
from recgraph.errors import ConfigError
from recgraph.files import digest, replacing
from recgraph.types import Content, Modality

logger = logging.getLogger(__name__)

CACHE_VERSION = 2
"""Part of the name of cached pipelines; raise it when a change of the fitting code changes its results."""

Pipeline = Mapping[str, FittedModality]
"""Name -> fitted modality."""


def content_of(
    settings: Mapping[str, ModalitySettings],
    features: Features,
    *,
    known_users: Bool[np.ndarray, "users"],
    known_items: Bool[np.ndarray, "items"],
    root: Path,
    cache: Path | None = None,
) -> tuple[Content, Pipeline]:
    """Fit every modality on the known rows, and compute the vectors of all rows.

    Args:
        settings: the `content:` block.
        features: attributes of both sides.
        known_users, known_items: True for those with training interactions.
        root: data root, to which the paths of vector files are relative.
        cache: folder of the prepared dataset, where fitted modalities are cached; None for no cache.

    Raises:
        ConfigError: an entry does not fit the dataset.
        DataError: a value is invalid.
    """
    made: dict[Side, dict[str, Modality]] = {"user": {}, "item": {}}
    pipeline = {}
    for name, entry in settings.items():
        where = f"content.{name}"
        attributes = features.items if entry.side == "item" else features.users
        frame, kinds = attributes.frame, attributes.kinds
        if entry.file is not None:
            _check_file(name, entry.file)
            frame, kinds = read_vectors(root / entry.file, attributes.frame["id"], where), {name: "vector"}
            frame = frame.rename({"vector": name})
        known = known_items if entry.side == "item" else known_users
        fitted = _fit(entry, frame, kinds, known, where, cache)
        pipeline[name], made[entry.side][name] = fitted, fitted.transform(frame, where)
    return Content(made["item"], made["user"]), pipeline


def check_columns(settings: Mapping[str, ModalitySettings], kinds: Mapping[Side, Mapping[str, Kind]]) -> None:
    """Refuse entries that do not fit a dataset's columns.

    Raises:
        ConfigError: an entry does not fit; gives its path.
    """
    for name, entry in settings.items():
        if entry.file is not None:
            _check_file(name, entry.file)
        else:
            own_kinds(entry, kinds[entry.side], f"content.{name}")


def _check_file(name: str, file: str) -> None:
    if name == "id":
        raise ConfigError("content.id: vectors from a file are in a column of this name beside `id`; choose another")
    if Path(file).suffix not in (".parquet", ".npy"):
        raise ConfigError(f"content.{name}.file: expected a file that ends in .parquet or .npy, got {file!r}")


def pack(pipeline: Pipeline) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A pipeline as JSON and tensors, so that it can be saved without pickle."""
    header = {
        name: {"settings": one.settings.model_dump(mode="json"), "kinds": dict(one.kinds), "terms": list(one.terms)}
        for name, one in pipeline.items()
    }
    tensors = {
        f"{name}.{key}": torch.from_numpy(array) for name, one in pipeline.items() for key, array in one.arrays.items()
    }
    return header, tensors


def unpack(header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Pipeline:
    """The inverse of `pack`."""
    return {
        name: FittedModality(
            ModalitySettings(**entry["settings"]),
            entry["kinds"],
            tuple(entry["terms"]),
            {
                key: tensors[f"{name}.{key}"].numpy()
                for key in ("idf", "components", "mean", "scale", "probe")
                if f"{name}.{key}" in tensors
            },
        )
        for name, entry in header.items()
    }


def joined(old: Modality, new: Modality) -> Modality:
    """The rows of `old` followed by those of `new`, on the device of `old`; the narrower one is padded with zeros."""
    width = max(old.values.shape[1], new.values.shape[1])
    values = (torch.nn.functional.pad(m.values, (0, width - m.values.shape[1])) for m in (old, new))
    both = (values, (old.present, new.present))
    return Modality(*(torch.cat([part.to(old.values.device) for part in parts]) for parts in both))


def _fit(
    settings: ModalitySettings,
    frame: pl.DataFrame,
    kinds: Mapping[str, Kind],
    known: Bool[np.ndarray, "rows"],
    where: str,
    cache: Path | None,
) -> FittedModality:
    """`fit_modality`, cached for the same settings and known rows of the same dataset."""
    own = own_kinds(settings, kinds, where)
    if cache is None or settings.file is not None or settings.by == "sentences":  # files and weights may change
        return fit_modality(settings, frame, kinds, known, where)
    content = [CACHE_VERSION, settings.model_dump(mode="json"), own, np.flatnonzero(known).tolist()]
    path = cache / f"content-{digest(content, 16)}.safetensors"
    if path.exists():
        try:
            with safe_open(path, "pt") as file:
                header = json.loads(file.metadata()["pipeline"])
                return unpack(header, {key: file.get_tensor(key) for key in file.keys()})["one"]  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            logger.warning("%s is damaged; fitting it again", path)
    fitted = fit_modality(settings, frame, kinds, known, where)
    header, tensors = pack({"one": fitted})
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, {"pipeline": json.dumps(header)})
    except OSError as error:
        logger.warning("cannot keep %s for the next time: %s", path, error)
    return fitted
