"""Hashing pairs of ids into buckets: crossed features of two fields without a table of all pairs.

Weinberger et al., "Feature hashing for large scale multitask learning", ICML 2009, https://arxiv.org/abs/0902.2206,
without their sign. The hash is integer arithmetic: the same in every process, on every device and in every version.
"""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

# Odd 64-bit constants as signed integers: the golden ratio, and the two of MurmurHash3's finaliser (Appleby, 2011).
_GOLDEN, _FIRST, _SECOND = (number - 2**64 for number in (0x9E3779B97F4A7C15, 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53))


def pairs(
    one: Int[Tensor, "*#batch few"], other: Int[Tensor, "*#batch some"], buckets: int
) -> Int[Tensor, "*batch both"]:
    """Hash each pair of an id of `one` and an id of `other` to a bucket from 1 on; 0 where either id is 0.

    Args:
        one, other: ids of two fields, in [0, 2³²); 0 means no value. Leading axes broadcast.
        buckets: number of buckets.

    Returns:
        [*batch, few · some]; the ids of `other` vary fastest.
    """
    left, right = one.unsqueeze(-1), other.unsqueeze(-2)
    mixed = left * _GOLDEN + right  # integers wrap, modulo 2⁶⁴
    for factor in (_FIRST, _SECOND):
        mixed = (mixed ^ (mixed >> 33 & 0x7FFFFFFF)) * factor  # the mask makes it an unsigned shift
    mixed = mixed ^ (mixed >> 33 & 0x7FFFFFFF)
    return ((mixed.remainder(buckets) + 1) * ((left > 0) & (right > 0))).flatten(-2)
