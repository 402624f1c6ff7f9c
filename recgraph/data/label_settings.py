"""The `labels:` block of an experiment file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from recgraph.data.features import Kind, Side
from recgraph.data.text_settings import Way
from recgraph.errors import ConfigError, suggest
from recgraph.types import LabelKind

Share = Annotated[float, Field(gt=0, lt=0.5)]


class LabelSettings(BaseModel):
    """An entry of the `labels:` block of an experiment file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: Literal["user", "item", "interaction"]
    """What the label belongs to."""
    feature: str
    """For users and items, a feature of the dataset's card; for interactions, a numeric column such as `rating`."""
    bands: tuple[float, ...] = ()
    """Cut points that turn a numeric feature into classes; each belongs to the class above it (18, 25, 35 ...: age
    bands)."""
    around: float | None = None
    """Cuts a numeric feature into two classes, below and above this value; equal values are masked. For ratings of 1 to
    5 stars, 3 makes the label the sign of the rating."""
    unknown: tuple[str, ...] = ()
    """Values of a categorical or multi_hot feature that count as missing."""
    holdout: tuple[Share, Share] = (0.1, 0.1)
    """For users or items: shares whose labels are held out for validation and for test."""
    text: str | None = None
    """For interactions: a text column to predict the label from, such as `review`. The function from text to vectors is
    fitted on training rows; a row without a known word gets zeros."""
    text_by: Way = "tfidf"
    """How text becomes vectors, as with `by` of a modality: TF-IDF + SVD, word vectors, or a language model."""
    text_dim: PositiveInt = 300
    """Width after the SVD, or of the word vectors."""
    text_model: str | None = None
    """For `text_by: sentences`: a folder, or a name that sentence-transformers knows."""
    pair: bool = True
    """For interactions: predict the label from user and item; with `text`, from these and the text together."""
    class_weight: Literal["balanced"] | None = None
    """For classes and tags: "balanced" gives each class the same weight in the loss, however rare, as in
    scikit-learn."""

    @model_validator(mode="after")
    def _consistent(self) -> LabelSettings:
        if self.bands and self.around is not None:
            raise ValueError("expected `bands` or `around`, not both")
        if list(self.bands) != sorted(set(self.bands)):
            raise ValueError(f"bands must rise, got {list(self.bands)}")
        if self.of != "interaction" and (self.text is not None or not self.pair):
            raise ValueError("`text` and `pair` are for labels of interactions")
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        for option in ("text_by", "text_dim"):
            if self.text is None and getattr(self, option) != defaults[option]:
                raise ValueError(f"`{option}` is of a `text` that tells the label: name its column")
        if self.of == "interaction" and self.holdout != defaults["holdout"]:
            raise ValueError("`holdout` is of users or items: interactions are held out by the split")
        if (self.text_model is not None) != (self.text_by == "sentences"):
            raise ValueError(
                "`text_model`, a folder or a name such as all-MiniLM-L6-v2, goes with `text_by: sentences`"
            )
        if self.text_by == "sentences" and self.text_dim != defaults["text_dim"]:
            raise ValueError("`text_dim` does nothing with `text_by: sentences`: a language model has its own")
        if not self.pair and self.text is None:
            raise ValueError("without `pair`, a `text` must tell the label")
        return self

    @model_serializer(mode="wrap")
    def _at_work(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out these options at their defaults, so that they change no hash of configurations without them."""
        idle = {"text_by": "tfidf", "text_model": None, "class_weight": None}
        return {key: value for key, value in handler(self).items() if key not in idle or value != idle[key]}

    def kind(self, of_feature: Kind, where: str) -> LabelKind:
        """What is predicted from a feature of this kind.

        Raises:
            ConfigError: the options do not fit the feature.
        """
        if of_feature not in ("categorical", "multi_hot", "numeric"):
            raise ConfigError(f"{where}.feature: {self.feature!r} is of the kind {of_feature}, which is no label")
        if (self.bands or self.around is not None) and of_feature != "numeric":
            raise ConfigError(
                f"{where}: `bands` and `around` are for numeric features, {self.feature!r} is {of_feature}"
            )
        if self.unknown and of_feature == "numeric":
            raise ConfigError(f"{where}.unknown: {self.feature!r} is numeric")
        number = of_feature == "numeric" and not self.bands and self.around is None
        if number and self.class_weight is not None:
            raise ConfigError(f"{where}.class_weight: {self.feature!r} is a number and has no classes")
        return "number" if number else "tags" if of_feature == "multi_hot" else "classes"


def check_labels(
    settings: Mapping[str, LabelSettings], kinds: Mapping[Side, Mapping[str, Kind]], columns: Mapping[str, Kind]
) -> None:
    """Refuse entries that do not fit a dataset.

    Args:
        settings: the `labels:` block.
        kinds: kinds of the features of users and of items.
        columns: kinds of the columns of interactions.

    Raises:
        ConfigError: an entry does not fit; gives its path.
    """
    for name, entry in settings.items():
        known = columns if entry.of == "interaction" else kinds[entry.of]
        for key, column in (("feature", entry.feature), ("text", entry.text)):
            if column is not None and column not in known:
                what = "column" if entry.of == "interaction" else "feature"
                raise ConfigError(
                    f"labels.{name}.{key}: no {what} {column!r} of {entry.of}s in this dataset. "
                    f"{suggest(column, known)}"
                )
        entry.kind(known[entry.feature], f"labels.{name}")
        if entry.text is not None and known[entry.text] != "text":
            raise ConfigError(f"labels.{name}.text: {entry.text!r} is {known[entry.text]}")
