"""Tests and intervals against SciPy, Holm's correction against published values, and error rates by simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recgraph.errors import ConfigError, DataError
from recgraph.evaluation import significance
from recgraph.evaluation.significance import compare, holm, interval, paired_t
from recgraph.random import numpy_generator


def like_recall(generator: np.random.Generator, *shape: int) -> np.ndarray:
    """Values as recall has them: many zeros, and a few shares of a few test items."""
    return generator.binomial(4, 0.15, shape) / 4


def within(count: int, trials: int, rate: float) -> bool:
    """Whether a count is one of the 99.9% that are usual at that rate."""
    low, high = stats.binom.interval(0.999, trials, rate)
    return bool(low <= count <= high)


@pytest.mark.parametrize("num_users", [2, 5, 300])
def test_paired_t_equals_scipy(num_users: int) -> None:
    ours, theirs = np.random.default_rng(num_users).random((2, num_users))
    assert paired_t(ours - theirs) == pytest.approx(stats.ttest_rel(ours, theirs).pvalue, rel=1e-12)


def test_differences_without_variance() -> None:
    assert paired_t(np.zeros(5)) == 1
    assert paired_t(np.full(5, 0.1)) == 0


def test_holm_by_hand() -> None:
    """Smallest first: 4 × .005, 3 × .01, 2 × .03, and 1 × .04, which may not be below .06."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.04])) == pytest.approx([0.04])
    assert holm(np.array([0.4, 0.5, 0.4])) == pytest.approx([1, 1, 1])


def test_holm_equals_published_values() -> None:
    """The example of statsmodels (stats/tests/test_multi.py), whose values are of R's multtest."""
    smallest = [5.23656777208e-05, 0.00028140506198, 0.0149877310796, 0.0202732688798, 0.177096952723]
    others = [0.838541367553, 0.642193923795, 0.680845947633, 0.967833824309, 0.71626938238]
    expected = [5.23656777208e-04, 2.53264555782e-03, 1.1990184863680e-01, 1.4191288215860e-01, 1, *[1] * 5]
    assert holm(np.array(smallest + others)) == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.012, 0.02, 0.04, 0.06, 0.5, 1.0]), min_size=1, max_size=8))
def test_holm_rejects_what_the_procedure_rejects(p: list[float]) -> None:
    """Holm's own words: from the smallest on, reject while p <= α / (tests left), then stop."""
    corrected = holm(np.array(p))
    for alpha in (0.011, 0.051, 0.101):
        rejected = set()
        for done, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
            if p[index] > alpha / (len(p) - done):
                break
            rejected.add(index)
        assert set(np.flatnonzero(corrected <= alpha).tolist()) == rejected


@pytest.mark.parametrize("chunk", [1, 999, 2**19])
def test_interval_equals_the_bootstrap_of_scipy(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same draws: whatever the chunk, both take them from one stream."""
    monkeypatch.setattr(significance, "CHUNK", chunk)
    values = like_recall(np.random.default_rng(0), 200)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=500, method="percentile", random_state=numpy_generator(7, "bootstrap")
    ).confidence_interval
    assert interval(values, resamples=500, seed=7) == pytest.approx([expected.low, expected.high], rel=1e-12)


def test_interval_of_several_series_is_that_of_each() -> None:
    values = like_recall(np.random.default_rng(0), 150, 3)
    together = interval(values, resamples=300, seed=1)
    assert together.shape == (2, 3)
    for series in range(3):
        assert together[:, series] == pytest.approx(interval(values[:, series], resamples=300, seed=1))


def test_interval_is_near_the_normal_one_for_many_users() -> None:
    values = like_recall(np.random.default_rng(0), 5000)
    error = 1.96 * values.std() / np.sqrt(5000)
    assert interval(values) == pytest.approx([values.mean() - error, values.mean() + error], abs=0.05 * error)
    assert not np.array_equal(interval(values, seed=1), interval(values, seed=2))
    assert np.array_equal(interval(values, seed=1), interval(values, seed=1))


def test_compare() -> None:
    generator = np.random.default_rng(0)
    level = 3 * generator.random(400)  # users differ more than rows do: unpaired, nothing would be found
    rows = {name: level + 0.1 * gain + generator.normal(0, 0.3, 400) for name, gain in [("b", 0), ("a", 1), ("c", -1)]}
    found = compare(rows, "b", resamples=200, seed=5)
    assert list(found) == ["a", "c"]
    corrected = holm(np.array([stats.ttest_rel(rows[row], rows["b"]).pvalue for row in found]))
    for row, expected in zip(found, corrected, strict=True):
        one = found[row]
        assert one.difference == pytest.approx(rows[row].mean() - rows["b"].mean())
        assert (one.low, one.high) == pytest.approx(tuple(interval(rows[row] - rows["b"], resamples=200, seed=5)))
        assert one.p == pytest.approx(stats.ttest_rel(rows[row], rows["b"]).pvalue)
        assert one.corrected == pytest.approx(expected)
        assert one.corrected < 0.01
    assert found["c"].high < 0 < found["a"].low
    assert compare({"b": rows["b"]}, "b") == {}


def test_compare_with_itself() -> None:
    values = like_recall(np.random.default_rng(0), 50)
    one = compare({"a": values, "again": values.copy()}, "a")["again"]
    assert (one.difference, one.low, one.high, one.p, one.corrected) == (0, 0, 0, 1, 1)


def test_rounding_of_means_is_no_difference() -> None:
    """A row of three equal seeds against the same row of one."""
    once = np.random.default_rng(0).random(5000)
    thrice = np.mean([once / 7, once / 7, once / 7], axis=0) * 7
    assert (once != thrice).any()
    one = compare({"once": once, "thrice": thrice}, "once", resamples=9)["thrice"]
    assert (one.difference, one.p) == (0, 1)


def test_rows_of_other_users_are_refused() -> None:
    a, b = np.arange(3), np.array([0, 1, 5])
    values = {"first": np.ones(3), "second": np.zeros(3)}
    assert compare(values, "first", users={"first": a, "second": a.copy()}, resamples=9)["second"].difference == -1
    for users, message in [
        (b, "user 2 is in one of them only"),
        (a[::-1].copy(), "different orders"),
        (a[:2], "user 2"),
    ]:
        with pytest.raises(DataError, match=f"second and first: .*{message}"):
            compare(values, "first", users={"first": a, "second": users})
    with pytest.raises(DataError, match="second has 2 users, first 3: expected the same users"):
        compare({**values, "second": np.zeros(2)}, "first")


def test_bad_input() -> None:
    broken = np.array([0.1, np.nan, np.inf])
    calls: list[Callable[[np.ndarray], object]] = [
        paired_t,
        interval,
        lambda values: compare({"a": values, "b": values}, "a"),
    ]
    for call in calls:
        with pytest.raises(DataError, match="2 values are not finite"):
            call(broken)
        with pytest.raises(DataError, match="at least two users, got 1"):
            call(np.ones(1))
    with pytest.raises(ConfigError, match=r"no row 'LightGNC'\. Did you mean 'LightGCN'"):
        compare({"LightGCN": np.ones(3), "BPR": np.ones(3)}, "LightGNC")


TRIALS = 1000


def test_false_positives_are_as_rare_as_they_say() -> None:
    """Five rows that do not differ: one comparison errs in 5% of tables, and after Holm all four together do at most."""
    generator = np.random.default_rng(0)
    single = uncorrected = familywise = 0
    for _ in range(TRIALS):
        # Zeros and a long tail, and users who are hard for every row. Not of a few values only: there p is too large.
        values = generator.random((100, 1)) * generator.random((100, 5)) ** 3 * (generator.random((100, 5)) < 0.5)
        found = compare({str(row): values[:, row] for row in range(5)}, "0", resamples=2)
        p = np.array([(one.p, one.corrected) for one in found.values()])
        single += p[0, 0] <= 0.05
        uncorrected += (p[:, 0] <= 0.05).any()
        familywise += (p[:, 1] <= 0.05).any()
    assert within(single, TRIALS, 0.05)
    assert familywise <= stats.binom.ppf(0.999, TRIALS, 0.05)
    assert uncorrected > 2 * familywise > 0  # so that the correction has something to do, and is not of no use


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    generator, held = np.random.default_rng(0), 0
    for _ in range(TRIALS):
        low, high = interval(like_recall(generator, 200), resamples=500)
        held += low <= 0.15 <= high
    assert within(held, TRIALS, 0.95)
