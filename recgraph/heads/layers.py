"""Layers of neural heads: their widths and initialisation."""

from __future__ import annotations

import math
from typing import Annotated

from annotated_types import MinLen
from torch import Tensor, nn

from recgraph.types import PositiveInt

FLOATS = 2**24
"""Floats of the widest layer in a chunk of pairs on devices other than a CPU: 64 MB, not measured."""

Widths = Annotated[tuple[PositiveInt, ...], MinLen(1)]
"""Type of an option that lists layers by their widths."""


def xavier_uniform(layer: nn.Linear, fan_in: int | None = None) -> nn.Linear:
    """A layer with weights from U(±√(6 / (inputs + outputs))) and bias 0, Keras's default.

    Args:
        layer: changed in place.
        fan_in: number of inputs of the full layer, if `layer` is only a part of it.
    """
    bound = math.sqrt(6 / ((fan_in or layer.in_features) + layer.out_features))
    return _drawn(layer, bound)


def lecun_uniform(layer: nn.Linear) -> nn.Linear:
    """A layer with weights from U(±√(3 / inputs)) and bias 0: the output of GMF, MLP and NeuMF in the authors' code."""
    return _drawn(layer, math.sqrt(3 / layer.in_features))


def room(vectors: Tensor, on_cpu: int) -> int:
    """Most floats of the widest layer in a chunk of pairs, on the device of `vectors`."""
    return on_cpu if vectors.device.type == "cpu" else FLOATS


def _drawn(layer: nn.Linear, bound: float) -> nn.Linear:
    nn.init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
