"""Dataset cards: YAML files that state where a dataset's files are, what they contain and what loading must yield.

Cards are looked up in the data root, then among those shipped with recgraph. The data root is `RECGRAPH_DATA`, else
the checkout's `datasets/`, else `~/.cache/recgraph`. It holds the user's own cards, raw files in `raw/<name>/` and
prepared tables in `cache/`.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from recgraph.data.features import FeatureFile, Kind
from recgraph.data.fetch import Form
from recgraph.data.formats import Format
from recgraph.data.prepare import Duplicates
from recgraph.data.readers import FileFormat
from recgraph.errors import ConfigError, DataError, suggest
from recgraph.registry import splits

logger = logging.getLogger(__name__)

NAME = r"^[a-z0-9][a-z0-9._-]*$"


class InteractionFile(BaseModel):
    """A file of interactions.

    Attributes:
        file: name among the form's files.
        part: the part of the official split that the file holds, if any.
        read: its format, with the columns of `Interactions`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    part: Literal["train", "validation", "test"] | None = None
    read: FileFormat

    @field_validator("read")
    @classmethod
    def _complete(cls, value: Format) -> Format:
        for name in ("user", "item", "rating", "time"):
            if (kind := value.columns.get(name, "")).endswith("?"):
                raise ValueError(f"columns.{name}: {kind!r}; every interaction has one, so expected {kind[:-1]!r}")
        return value


class CandidateFile(BaseModel):
    """A file of stored candidates, which sampled metrics rank instead of the catalogue.

    Attributes:
        file: name among the form's files.
        read: its format, with the columns `user` and `item`. All users must have the same number of rows; test items
            may be among them or not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    read: FileFormat

    @field_validator("read")
    @classmethod
    def _pairs(cls, value: Format) -> Format:
        if sorted(value.wanted) != ["item", "user"]:
            raise ValueError(f"expected the columns user and item, got {', '.join(value.wanted)}")
        return value


class CardForm(Form):
    """A form in which the dataset is published, and how to read it. All forms must yield the same prepared table.

    Attributes:
        interactions: one file, or several with the same columns, which are concatenated.
        features: files of attributes.
        candidates: a file of candidates for the test part of the official split.
    """

    interactions: tuple[InteractionFile, ...] = Field(min_length=1)
    features: tuple[FeatureFile, ...] = ()
    candidates: CandidateFile | None = None

    @model_validator(mode="after")
    def _consistent(self) -> CardForm:
        files = [table.file for table in self.interactions] + [source.file for source in self.features]
        for file in files + ([self.candidates.file] if self.candidates else []):
            if file not in self.files:
                raise ValueError(f"no file {file!r}. {suggest(file, self.files)}")
        if len({tuple(table.read.columns.items()) for table in self.interactions}) > 1:
            raise ValueError("interactions: the files must have the same columns, types and order")
        if len({table.part is None for table in self.interactions}) > 1:
            raise ValueError("interactions: give `part` for all files or for none")
        if self.candidates and all(table.part != "test" for table in self.interactions):
            raise ValueError("candidates: they belong to the test part of an official split, and no file is that part")
        for side in ("user", "item"):
            own = [name for source in self.features if side in source.read.columns for name in source.features]
            if len(set(own)) < len(own):
                raise ValueError(f"features: a name is given twice among {own}")
        return self


class Preparation(BaseModel):
    """Arguments of `recgraph.data.prepare.prepare`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    duplicates: Duplicates = "error"
    threshold: float | None = None
    user_core: int = Field(default=1, ge=1)
    item_core: int = Field(default=1, ge=1)


class Expected(BaseModel):
    """What loading must find; None is not checked.

    Attributes:
        users: users with an interaction after preparation; items and interactions likewise.
        duplicates: rows of the files that repeat a (user, item) pair.
        train: train rows of the official split; validation and test likewise.
        test_only_users: users with test rows but no train row; test_only_items likewise.
        fingerprint: of the prepared interactions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    users: int
    items: int
    interactions: int
    duplicates: int = 0
    train: int | None = None
    validation: int | None = None
    test: int | None = None
    test_only_users: int = 0
    test_only_items: int = 0
    fingerprint: str | None = None


class Card(BaseModel):
    """The description of a dataset.

    Attributes:
        name: as on the command line; also the folder of its raw files.
        title: for people.
        source: home page; None for the user's own data, which the table in datasets/README.md leaves out.
        paper: the paper to cite.
        licence: terms of use.
        notes: what a user should know.
        forms: name -> files and how to read them, in order of preference.
        preparation: steps from the files to the table.
        splits: name -> options, for the splits that suit the data; the first is the default.
        expected: counts that are checked when the dataset is loaded.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME)
    title: str
    source: str | None = None
    paper: str | None = None
    licence: str
    notes: str = ""
    forms: dict[str, CardForm] = Field(min_length=1)
    preparation: Preparation = Preparation()
    splits: dict[str, dict[str, Any]] = Field(min_length=1)
    expected: Expected

    @field_validator("splits")
    @classmethod
    def _known(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, options in value.items():
            splits.check({"name": name, **options}, f"splits.{name}")
        return value

    @model_validator(mode="after")
    def _candidates_in_every_form(self) -> Card:
        if len({form.candidates is None for form in self.forms.values()}) > 1:
            raise ValueError("forms: give `candidates` for all or for none")
        return self

    @property
    def default_split(self) -> str:
        """Name of the first split."""
        return next(iter(self.splits))

    @property
    def columns(self) -> dict[str, Kind]:
        """Name -> kind (numeric or text) of the interactions' columns other than user, item and part."""
        tables = next(iter(self.forms.values())).interactions
        given = {name: kind for table in tables for name, kind in table.read.wanted.items()}
        of_kind: dict[str, Kind] = {"float": "numeric", "int": "numeric", "date": "numeric", "str": "text"}
        return {
            name: of_kind[kind.rstrip("?")]
            for name, kind in given.items()
            if kind.rstrip("?") in of_kind and name not in ("user", "item")
        }

    def has_candidates(self, split: str) -> bool:
        """Whether a split of this name has stored candidates: only "official", and only if there is a file of them."""
        return split == "official" and next(iter(self.forms.values())).candidates is not None


def data_root() -> Path:
    """The folder of the user's own cards, raw files and prepared tables."""
    if own := os.environ.get("RECGRAPH_DATA"):
        return Path(own).expanduser()
    return _checkout() or Path("~/.cache/recgraph").expanduser()


def names(root: Path | None = None) -> list[str]:
    """Every dataset with a card, in alphabetical order."""
    return sorted(_paths(root))


def find(name: str, root: Path | None = None) -> Card:
    """The card called `name`.

    Raises:
        ConfigError: there is none; suggests the nearest name.
        DataError: the card is invalid.
    """
    paths = _paths(root)
    if name not in paths:
        raise ConfigError(f"no dataset {name!r}. {suggest(name, paths)}")
    return read_card(paths[name])


def every(root: Path | None = None) -> list[Card]:
    """Every valid card, in the order of `names`; an invalid one is skipped, with a warning that says why."""
    cards = []
    for name in names(root):
        try:
            cards.append(find(name, root))
        except DataError as error:
            logger.warning("left out the dataset %s: %s", name, error)
    return cards


def read_card(path: Path) -> Card:
    """Read and check a card.

    Raises:
        DataError: the card is invalid; names the file and the path of each wrong entry.
    """
    try:
        card = Card.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not valid utf-8") from error
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML: {error}") from error
    except ValidationError as error:
        problems = (".".join(map(str, problem["loc"])) + f": {problem['msg']}" for problem in error.errors())
        raise DataError(f"{path}: " + "; ".join(problems)) from error
    if card.name != path.stem:
        raise DataError(f"{path}: the name is {card.name!r}, but the file is called {path.name}")
    return card


def shipped() -> list[Card]:
    """The cards that come with recgraph, in the order of their names."""
    return [read_card(path) for path in sorted(_shipped().glob("*.yaml"))]


def _paths(root: Path | None) -> dict[str, Path]:
    folders = (_shipped(), data_root() if root is None else root)
    return {path.stem: path for folder in folders for path in folder.glob("*.yaml")}


def _checkout() -> Path | None:
    """`datasets/` of the checkout that contains this file; None outside a checkout."""
    top = Path(__file__).resolve().parents[2]
    return top / "datasets" if (top / "setup.cfg").exists() and (top / "datasets").is_dir() else None


def _shipped() -> Path:
    return _checkout() or Path(__file__).resolve().parents[1] / "cards"
