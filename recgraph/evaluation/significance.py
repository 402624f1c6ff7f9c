"""Differences between rows of a table: paired tests, confidence intervals and correction for multiple tests.

Users are the observations: both rows rank for the same users, and each user gives one difference (Sakai, "Statistical
Reform in Information Retrieval?", SIGIR Forum 48(1), 2014). So p says whether a difference would hold for other users
of the same population. It does not say whether it would hold for other seeds or another split: average each user's
values over seeds first, and judge variation between seeds by their spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from recgraph.errors import ConfigError, DataError, suggest
from recgraph.random import numpy_generator

RESAMPLES = 10_000
"""Number of resamples of an interval: the share of means beyond an end is then 2.5% ± 0.3%, at two standard errors."""

CHUNK = 2**19
"""Users × resamples processed at once: three arrays of 4 MB. Arrays of 16 MB exceed the caches and take 1.5 times as
long."""

ROUNDING = 1e-12
"""Differences up to this, relative to the largest value, count as 0. The mean of one number over three seeds may differ
from that number in its last bit, always in the same direction, which a test of many users would find significant."""


@dataclass(frozen=True)
class Comparison:
    """A row compared with the reference.

    Attributes:
        difference: mean over users of the row's value minus the reference's.
        low, high: 95% bootstrap interval of the difference, for this comparison alone.
        p: two-sided p of no difference, for this comparison alone.
        corrected: p, corrected for all comparisons with the reference.
    """

    difference: float
    low: float
    high: float
    p: float
    corrected: float


def paired_t(differences: Float[np.ndarray, "users"]) -> float:
    """Two-sided p of Student's paired t-test; 1 if all differences are 0.

    With thousands of users it is nearly exact for any metric, because only the mean has to be nearly normal.

    Raises:
        DataError: there are fewer than two users, or a difference is not finite.
    """
    from scipy.stats import ttest_1samp  # slow to import

    _check(differences, "differences")
    if np.ptp(differences) == 0:  # no variance: SciPy would warn and, for zeros, return NaN
        return float(differences[0] == 0)
    return float(ttest_1samp(differences, 0).pvalue)


def holm(p: Float[np.ndarray, "tests"]) -> Float[np.ndarray, "tests"]:
    """Holm-corrected p-values: rejecting those below α keeps the family-wise error rate at α or less.

    The i-th smallest of m becomes (m - i + 1) p, but at least the previous corrected one and at most 1 (Holm, "A Simple
    Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6(2), 1979). It is more powerful
    than Bonferroni's correction and, like it, valid for dependent tests, such as those against one reference.
    """
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def interval(
    values: Float[np.ndarray, "users *series"], *, resamples: int = RESAMPLES, seed: int = 0
) -> Float[np.ndarray, "2 *series"]:
    """Lower and upper end of the 95% percentile bootstrap interval of a mean over users (Efron, 1979).

    For paired differences, both rows have the same resampled users. In simulations, the interval covered the true mean
    in 93 to 95% of cases for 200 and more users, whether of differences in recall, rare hits or skewed differences, and
    in 92% for 60 users of whom few differ. The bias-corrected interval (BCa) did no better.

    Args:
        values: one value per user; or several, whose means then use the same resamples.
        resamples: number of resamples, each of as many users drawn with replacement; at least 1.
        seed: seed of the resamples.

    Raises:
        DataError: there are fewer than two users, or a value is not finite.
    """
    _check(values, "values")
    generator, num_users = numpy_generator(seed, "bootstrap"), len(values)
    means = []
    for size in _chunks(num_users, resamples):
        drawn = generator.integers(num_users, size=(size, num_users))
        drawn += num_users * np.arange(size)[:, None]
        # How often each user was drawn: one product then gives the means of all series.
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(size, num_users)
        means.append(times.astype(np.float64) @ values / num_users)
    return np.quantile(np.concatenate(means), [0.025, 0.975], axis=0)


def compare(
    values: Mapping[str, Float[np.ndarray, "_"]],
    reference: str,
    *,
    users: Mapping[str, Int[np.ndarray, "_"]] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Compare every other row with the reference, user by user.

    Args:
        values: row -> value of each user, averaged over seeds, users in the same order in every row.
        reference: the row to compare with.
        users: row -> index of each of its users, checked to be the same; None skips the check.
        resamples: number of resamples of the intervals.
        seed: seed of the intervals' resamples.

    Returns:
        Row -> its comparison, in the order given, without the reference.

    Raises:
        ConfigError: no row has the name `reference`.
        DataError: rows have different users, or fewer than two, or a value is not finite.
    """
    if reference not in values:
        raise ConfigError(f"compare: no row {reference!r}. {suggest(reference, values)}")
    others = [row for row in values if row != reference]
    if not others:
        return {}
    base = values[reference]
    for row in values:
        _check(values[row], row)
        if len(values[row]) != len(base):
            raise DataError(f"{row} has {len(values[row])} users, {reference} {len(base)}: expected the same users")
        if users is not None:
            _check_same(row, users[row], reference, users[reference])
    differences = np.stack([values[row] - base for row in others], axis=1).astype(np.float64)
    differences[np.abs(differences) <= ROUNDING * max(np.abs(one).max() for one in values.values())] = 0
    low, high = interval(differences, resamples=resamples, seed=seed)
    p = np.array([paired_t(column) for column in differences.T])
    return {
        row: Comparison(*map(float, found))
        for row, found in zip(others, np.stack([differences.mean(0), low, high, p, holm(p)], axis=1), strict=True)
    }


def _chunks(width: int, total: int) -> list[int]:
    """Chunk sizes that add up to `total`; a chunk of rows of `width` has at most `CHUNK` entries, or one row."""
    size = max(1, CHUNK // max(1, width))
    return [min(size, total - start) for start in range(0, total, size)]


def _check(values: Float[np.ndarray, "users *series"], where: str) -> None:
    if len(values) < 2:
        raise DataError(f"{where}: expected values of at least two users, got {len(values)}")
    if not np.isfinite(values).all():
        raise DataError(f"{where}: {int((~np.isfinite(values)).sum())} values are not finite; expected numbers")


def _check_same(row: str, users: np.ndarray, reference: str, expected: np.ndarray) -> None:
    if len(users) != len(expected) or (users != expected).any():
        odd = np.setxor1d(users, expected)
        what = f"user {odd[0]} is in one of them only" if len(odd) else "their users are in different orders"
        raise DataError(f"{row} and {reference}: {what}; expected the same users in the same order")
