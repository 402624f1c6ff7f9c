"""What the type of an option expects, in the words of a message, for values that are refused without pydantic."""

from __future__ import annotations

import math
import operator
import types
import typing
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from recgraph.errors import ConfigError

NUMBERS = {int: (Integral, "an integer"), float: (Real, "a number")}
LIMITS: dict[str, tuple[str, Any]] = {"gt": ("above", operator.gt), "ge": ("of at least", operator.ge)}
LIMITS |= {"lt": ("below", operator.lt), "le": ("of at most", operator.le)}
LIMITS |= {"min_length": ("with a length of at least", lambda values, least: len(values) >= least)}


def mismatch(value: Any, kind: Any) -> str:
    """What an option's type expects instead of a value; empty if it fits, or the type has no numbers, names or lists.

    Arrays and tensors fit as numbers, whatever is in them.
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "" if value in parts else f"one of {', '.join(map(repr, parts))}"
    if is_union(kind):
        wrong = [mismatch(value, part) for part in parts]
        return "" if "" in wrong else " or ".join(wrong)
    if origin in (Sequence, tuple) and not hasattr(value, "__array__"):
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else [None]
        kinds = parts[:1] * len(values) if origin is Sequence or ... in parts else parts
        each = next(filter(None, map(mismatch, values, kinds)), "")
        return "" if values is value and not each else f"a list of values{each and f', each {each}'}"
    if origin is typing.Annotated:
        wrong_kind = mismatch(value, parts[0])
        limits = [(*LIMITS[name], getattr(one, name)) for one in parts[1:] for name in LIMITS if hasattr(one, name)]
        bounded = isinstance(value, Real | Sequence)
        if wrong_kind or (bounded and not all(within(value, end) for _, within, end in limits)):
            what = wrong_kind or mismatch(None, parts[0])
            return f"{what} {' and '.join(f'{word} {end}' for word, _, end in limits)}"
    if kind in NUMBERS:
        fits, name = NUMBERS[kind]
        number = isinstance(value, fits) and not isinstance(value, bool) and math.isfinite(value)
        return "" if number or hasattr(value, "__array__") else name
    return "None" if kind is types.NoneType and value is not None else ""


def is_union(kind: Any) -> bool:
    """Whether a type is one of several, such as `int | None`."""
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def refuse_booleans(given: Any, checked: Any, where: str) -> None:
    """Raise a ConfigError where a configuration has a boolean and validation has made a number of it."""
    if isinstance(given, bool) and not isinstance(checked, bool):
        raise ConfigError(f"{where}: expected a number, got {str(given).lower()}")
    if isinstance(given, Mapping) and isinstance(checked, Mapping):
        for key in given.keys() & checked.keys():
            refuse_booleans(given[key], checked[key], f"{where}.{key}")
    if isinstance(given, list) and isinstance(checked, list | tuple):
        for number, one in enumerate(zip(given, checked, strict=False)):
            refuse_booleans(*one, f"{where}.{number}")
