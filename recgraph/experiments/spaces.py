"""Search spaces of `recgraph tune`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveFloat, StrictInt, model_validator


class Range(BaseModel):
    """A search space between two bounds: `uniform`, `log` (uniform on a logarithmic scale) or `int`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uniform: tuple[float, float] | None = None
    log: tuple[PositiveFloat, PositiveFloat] | None = None
    int: tuple[StrictInt, StrictInt] | None = None

    @model_validator(mode="after")
    def _one_rising(self) -> Range:
        given = [bounds for bounds in (self.uniform, self.log, self.int) if bounds is not None]
        if len(given) != 1 or given[0][0] >= given[0][1]:
            raise ValueError("expected one of uniform, log and int, with a lower and a higher bound")
        return self


def space(value: Any) -> list[Any] | Range:
    """Parse a list of values or a range; a union type would report the errors of both."""
    if isinstance(value, Mapping):
        if len(value) != 1 or not set(value) <= set(Range.model_fields):
            raise ValueError(f"expected values, or one of {', '.join(Range.model_fields)} with two bounds")
        return Range(**value)
    if not isinstance(value, list) or not value:
        raise ValueError("expected a list of values, or a range")
    return value
