"""Reads experiment files, and reports what does not fit their schema by its dotted path."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from recgraph.errors import ConfigError, plainly, suggest
from recgraph.expected import refuse_booleans
from recgraph.experiments.schema import Experiment


def read(path: Path) -> Experiment:
    """Read and validate the outline of an experiment file; `plan` validates its rows.

    Raises:
        ConfigError: the file is missing, is not YAML, repeats a key, or does not fit the schema.
    """
    if path.is_dir():
        inside = sorted(path.glob("*.yaml"))
        such = f", such as {inside[0]}" if inside else ""
        raise ConfigError(f"{path} is a folder; expected an experiment file{such}")
    if not path.is_file():
        others = [str(other) for other in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise ConfigError(f"no experiment file {path}. {suggest(str(path), others)}")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected keys such as datasets, seeds, base and rows, got {tree!r}")
    return validate(Experiment, tree, str(path))


def validate(schema: type[BaseModel], tree: Any, where: str) -> Any:
    """Validate a tree against a schema; an error becomes a ConfigError with its path and the nearest key."""
    try:
        made = schema.model_validate(tree)
    except ValidationError as error:
        # A misspelt key is reported first: it explains a missing required one.
        first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        address = ".".join(str(part) for part in first["loc"] if part not in ("str", "dict[str,any]"))
        if first["type"] != "extra_forbidden":
            ours, missing = (first["type"] == kind for kind in ("value_error", "missing"))
            what = [where, address, str(first["ctx"]["error"]) if ours else plainly(first["msg"])]
            if first["loc"][-1:] == ("str",):  # the first kind of a `Spec`
                what[-1] = "expected a name, or a mapping with a `name`"
            said = missing or what[-1].endswith("?") or (ours and isinstance(first["input"], dict))
            got = "" if said else f", got {first['input']!r}"
            raise ConfigError(": ".join(filter(None, what)) + got) from None
        *parents, leaf = first["loc"]
        known: Any = schema
        for key in parents:
            fields = getattr(known, "model_fields", None)
            # The keys of a mapping are arbitrary, and its values have one type.
            known = fields[str(key)].annotation if fields else typing.get_args(known)[1]
            if typing.get_origin(known) is types.UnionType:
                known = next(part for part in typing.get_args(known) if hasattr(part, "model_fields"))
        raise ConfigError(f"{where}: {address}: no such key. {suggest(str(leaf), known.model_fields)}") from None
    refuse_booleans(tree, made.model_dump(), where)
    return made


class _UniqueKeys(yaml.SafeLoader):
    """Rejects duplicate keys, of which PyYAML silently keeps the last; keys merged by `<<` may be overridden."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._read: list[yaml.MappingNode] = []

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(node is one for one in self._read):  # and has what it merges among its own keys by now
            return
        self._read.append(node)
        merge = "tag:yaml.org,2002:merge"
        seen = []
        for at in (key for key, _ in node.value if key.tag != merge):
            if (key := self.construct_object(at, deep=True)) in seen:
                raise yaml.YAMLError(f"{key!r} stands twice{at.start_mark}")
            seen.append(key)
        super().flatten_mapping(node)
