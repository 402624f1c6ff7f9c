"""Heads over the fields of an encoder such as `fields`; with any other encoder, query and item are one field each.

Their scores may be used as logits of a click: the sigmoid is part of the objective.
"""

from __future__ import annotations

import inspect
from typing import Any

from recgraph.errors import ConfigError
from recgraph.heads.base import Head
from recgraph.heads.layers import Widths
from recgraph.heads.parts import CrossPart, DeepPart, FMPart, LinearPart, Sum
from recgraph.layout import Layout
from recgraph.registry import heads
from recgraph.types import Fraction, PositiveInt


@heads.register("linear")
class Linear(Sum):
    """A linear model of all fields and crosses: logistic regression, with the objective `log_loss`.

    Args:
        dim: width of query and item vectors.
        layout: what their columns are; None for one field on each side.
    """

    def __init__(self, dim: int, layout: Layout | None = None) -> None:
        super().__init__(dim, wide=LinearPart(dim, layout or Layout(dim)))


@heads.register("wide_deep")
class WideDeep(Sum):
    """A linear model of all fields and crosses plus layers over the fields' vectors, trained together.

    Cheng et al., "Wide & deep learning for recommender systems", DLRS 2016, https://arxiv.org/abs/1606.07792,
    section 3.3: the sum of two log odds, each with its own weights.

    Args:
        dim: width of query and item vectors.
        layout: what their columns are; None for one field on each side.
        hidden: widths of the layers. (256, 256, 256), with a dropout of 0.2, in RecBole's settings for MovieLens-1M;
            the paper has (1024, 512, 256).
        dropout: fraction of the inputs of each layer that is zeroed in training, in [0, 1).
    """

    def __init__(
        self, dim: int, layout: Layout | None = None, *, hidden: Widths = (256, 256, 256), dropout: Fraction = 0.0
    ) -> None:
        layout = layout or Layout(dim)
        super().__init__(dim, wide=LinearPart(dim, layout), deep=DeepPart(layout, hidden=hidden, dropout=dropout))


@heads.register("fm")
class FM(Sum):
    """A factorisation machine: a linear model of all fields and crosses plus ⟨·,·⟩ of every pair of fields' vectors.

    Rendle, "Factorization machines", ICDM 2010.

    Args:
        dim: width of query and item vectors.
        layout: what their columns are; None for one field on each side.
    """

    def __init__(self, dim: int, layout: Layout | None = None) -> None:
        layout = layout or Layout(dim)
        super().__init__(dim, wide=LinearPart(dim, layout), pairs=FMPart(dim, layout))


@heads.register("deepfm")
class DeepFM(Sum):
    """A factorisation machine plus layers over the same vectors.

    Guo et al., "DeepFM: a factorization-machine based neural network for CTR prediction", IJCAI 2017,
    https://arxiv.org/abs/1703.04247, section 2.1.

    Args:
        dim: width of query and item vectors.
        layout: what their columns are; None for one field on each side.
        hidden: widths of the layers. (256, 256, 256), with a dropout of 0.1, in RecBole's settings for MovieLens-1M.
        dropout: fraction of the inputs of each layer that is zeroed in training, in [0, 1).
    """

    def __init__(
        self, dim: int, layout: Layout | None = None, *, hidden: Widths = (256, 256, 256), dropout: Fraction = 0.0
    ) -> None:
        layout = layout or Layout(dim)
        deep = DeepPart(layout, hidden=hidden, dropout=dropout)
        super().__init__(dim, wide=LinearPart(dim, layout), pairs=FMPart(dim, layout), deep=deep)


@heads.register("dcn")
class DCN(Sum):
    """DCN-V2, parallel: cross layers over all fields plus layers over the same vectors.

    Wang et al., "DCN V2: Improved deep & cross network and practical lessons for web-scale learning to rank systems",
    WWW 2021, https://arxiv.org/abs/2008.13535, section 3. One output layer over both equals the sum of an output layer
    for each. It has no linear part, and refuses encoders that give weights for one.

    Args:
        dim: width of query and item vectors.
        layout: what their columns are; None for one field on each side.
        num_layers: cross layers (2 in RecBole's settings for MovieLens-1M).
        hidden: widths of the other layers ((256, 256) there, with a dropout of 0.2).
        dropout: fraction of the inputs of each of the other layers that is zeroed in training, in [0, 1).
    """

    def __init__(
        self,
        dim: int,
        layout: Layout | None = None,
        *,
        num_layers: PositiveInt = 2,
        hidden: Widths = (256, 256),
        dropout: Fraction = 0.0,
    ) -> None:
        layout = layout or Layout(dim)
        if layout.wide:
            raise ConfigError("head dcn has no linear part: set encoder.wide to false, and encoder.crosses to []")
        cross = CrossPart(dim, layout, num_layers=num_layers)
        super().__init__(dim, cross=cross, deep=DeepPart(layout, hidden=hidden, dropout=dropout))


def build_head(spec: Any, dim: int, layout: Layout, *, where: str) -> Head:
    """Build a head from its configuration, for an encoder's vectors.

    Args:
        spec: entry of `heads:`.
        dim, layout: of the encoder.
        where: dotted path of the entry, for messages.

    Raises:
        ConfigError: an option is wrong, or the head would treat weights and ids as ordinary columns.
    """
    kind = heads.find(heads.check(spec, where)["name"])
    if "layout" not in inspect.signature(kind).parameters:
        layout.refuse_weights(where, kind.__name__, "take a head for fields (linear, fm, wide_deep, deepfm), or ")
    head: Head = heads.build(spec, dim, where=where, layout=layout)
    return head
