"""Statistics of a split: sizes, ids missing from train, shift from a random split, trend within lists, time leaks.

They show how parts differ. For example, the official test part of Gowalla is the end of each user's list and favours
items that became popular late, which a random validation part does not. The time statistics follow Ji et al., A
Critical Study on Data Leakage in Recommender System Offline Evaluation, TOIS 2023, https://doi.org/10.1145/3569930.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl
from tabulate import tabulate

from recgraph.data.interactions import PARTS, Interactions
from recgraph.data.splits import TEST, VALIDATION, Split

TOP = 100
"""Size of the group of most popular items that gets statistics of its own."""
BANDS = ("head", "mid", "tail")
"""Groups of items from popular to rare: with items sorted by popularity, the third of all interactions in which those
of an item begin."""
TENTHS = 10
QUANTILES = {"min": 0.0, "25%": 0.25, "median": 0.5, "75%": 0.75, "max": 1.0}

Figures = dict[str, Any]


def audit(split: Split) -> Figures:
    """Statistics of a split as nested plain values, ready for JSON; None where one is undefined.

    Popularity is the number of interactions in all parts together. So the band of an item does not depend on the part
    that its rows are in, and a random split shows no shift. Pairs must be distinct, as `prepare` leaves them.

    Returns:
        `parts`: rows, their share, users, items, and quantiles of rows per user (over users with rows).
        `overlap`: number of (user, item) pairs in more than one part; `Split` allows none.
        `unseen`: for validation and test, the numbers of users and items without train rows, and of the rows they
            are in.
        `shift`: for validation and test, the difference from a random part, None for an empty part; see `_shift`.
            `correlation` is between the items' z-scores in validation and in test: 0 if one part is random, positive
            if both are shifted alike.
        `trend`: for each part, the share of the `TOP` items in each tenth of the users' lists in file order; see
            `_trend`.
        `time`: see `_leaks`; None without a `time` column.
    """
    parts = dict(zip(PARTS, (split.train, split.validation, split.test), strict=True))
    num_users, num_items = split.train.num_users, split.train.num_items
    users = np.concatenate([part.user_indices for part in parts.values()])
    items = np.concatenate([part.item_indices for part in parts.values()])
    codes = np.repeat(np.arange(len(PARTS)), [len(part) for part in parts.values()])
    bands = _bands(np.bincount(items, minlength=num_items))
    kept = codes != TEST
    scores: dict[str, np.ndarray] = {}
    shift: Figures = dict.fromkeys(PARTS[VALIDATION:])
    for code, rows in ((VALIDATION, kept), (TEST, np.ones_like(kept))):
        if len(parts[name := PARTS[code]]):
            scores[name], shift[name] = _shift(users[rows], items[rows], codes[rows] == code, num_users, bands)
    return {
        "parts": {name: _sizes(part, len(items)) for name, part in parts.items()},
        "overlap": sum(_distinct(part.pairs) for part in parts.values()) - _distinct(users * num_items + items),
        "unseen": {name: _unseen(parts[name], split.train) for name in PARTS[VALIDATION:]},
        "shift": shift | {"correlation": _correlation(scores.get("validation"), scores["test"])},
        "trend": {name: _trend(part, bands[f"top {TOP}"]) for name, part in parts.items()},
        "time": _leaks(parts) if "time" in split.train.frame.columns else None,
    }


def lines(figures: Figures) -> list[str]:
    """The statistics from `audit` as lines of text."""
    parts, shift, trend, time = (figures[key] for key in ("parts", "shift", "trend", "time"))
    chosen = [name for name in PARTS[VALIDATION:] if shift[name]]
    sizes = [[name, *(f"{part[key]:,}" for key in ("rows", "users", "items"))] for name, part in parts.items()]
    for row, part in zip(sizes, parts.values(), strict=True):
        row += [f"{part['share']:.3f}", " ".join(f"{value:g}" for value in part["rows per user"].values())]
    quantiles = " ".join(QUANTILES)
    text = _table(["", "rows", "users", "items", "share", f"rows per user ({quantiles})"], sizes)
    text.append(f"pairs in more than one part: {figures['overlap']}")
    for name, found in figures["unseen"].items():
        text.append(
            f"{name}, not in train: {found['items']:,} items (in {found['item rows']:,} rows), "
            f"{found['users']:,} users (in {found['user rows']:,} rows)"
        )
    measured = [["sd of the items' z-scores", *(_pm(shift[name]["sd"], shift[name]["error"]) for name in chosen)]]
    for band, own in shift["test"]["bands"].items():
        cells = (shift[name]["bands"][band] for name in chosen)
        measured.append(
            [
                f"share of {band} ({own['items']:,} items)",
                *(f"{_number(cell['share'])} (random {_number(cell['expected'])})" for cell in cells),
            ]
        )
    by_user = (shift[name]["share per user"] for name in chosen)
    measured.append([f"share per user ({quantiles})", *(" ".join(map(_number, cell.values())) for cell in by_user)])
    text += ["", "shift against a random part, whose sd is 1"]
    text += _table(["", *chosen], measured)
    text.append(f"correlation of the z-scores of validation and test: {_number(shift['correlation'])}")
    text += ["", f"share of the top {TOP} items by tenth of the users' lists, in file order"]
    text += _table([], [[name, *map(_number, shares)] for name, shares in trend.items() if shares])
    if time:
        text += ["", "time", *_table([], [[name, _number(value)] for name, value in time.items()])]
    return text


def _sizes(part: Interactions, total: int) -> Figures:
    per_user = np.bincount(part.user_indices)
    return {
        "rows": len(part),
        "share": len(part) / total,
        "users": int(np.count_nonzero(per_user)),
        "items": _distinct(part.item_indices),
        "rows per user": _quantiles(per_user[per_user > 0]),
    }


def _unseen(part: Interactions, train: Interactions) -> dict[str, int]:
    """Numbers of a part's users and items without a row in train, and of the part's rows that they are in."""
    found: dict[str, int] = {}
    for side, own, known, size in (
        ("user", part.user_indices, train.user_indices, train.num_users),
        ("item", part.item_indices, train.item_indices, train.num_items),
    ):
        unseen = own[np.bincount(known, minlength=size)[own] == 0]
        found |= {f"{side}s": _distinct(unseen), f"{side} rows": len(unseen)}
    return found


def _bands(popularity: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> Boolean mask of items; ties in popularity are broken by index, and items without rows are in no band."""
    order = np.argsort(-popularity, kind="stable")
    place, third = np.empty_like(order), np.empty_like(order)
    place[order] = np.arange(len(order))
    third[order] = (np.cumsum(popularity[order]) - popularity[order]) * len(BANDS) // popularity.sum()
    occurs = popularity > 0
    bands = {f"top {TOP}": occurs & (place < TOP), "others": occurs & (place >= TOP)}
    return bands | {name: third == k for k, name in enumerate(BANDS)}


def _shift(
    users: np.ndarray, items: np.ndarray, chosen: np.ndarray, num_users: int, bands: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, Figures]:
    r"""How much a part differs from a random choice of each user's rows.

    Let user u have n_u rows, t_u of them in the part. If these were drawn at random without replacement, each row would
    be in the part with probability p_u = t_u / n_u, and the rows of one item, which belong to different users, would be
    independent. So the number x_i of rows of item i in the part would be Poisson-binomial, and

        z_i = (x_i - Σ p_u) / sqrt(Σ p_u (1 - p_u)),   sums over the item's users,

    has mean 0 and variance 1 exactly, whatever the shares of the users. `sd` is the root of the mean of z² over items.

    Args:
        users, items: of all rows that the part was chosen from, including its own.
        chosen: True for the rows in the part.
        bands: name -> Boolean mask of items.

    Returns:
        z [items], NaN where the variance is 0, and the statistics: `sd`, None if no item has a variance; its standard
        `error` for a random part (Var z² = 2 + Σ p q (1 - 6 p q) / variance² with q = 1 - p, items taken as
        independent); `items`, the number with a variance; for each of the `bands`, items, rows, the share of the rows
        that are in the part, and the share `expected` of a random part; quantiles of the `share per user`.
    """
    rows, own = np.bincount(users, minlength=num_users), np.bincount(users, chosen, num_users)
    share = own / np.maximum(rows, 1)
    num_items = len(next(iter(bands.values())))
    p = share[users]
    observed, expected = np.bincount(items, chosen, num_items), np.bincount(items, p, num_items)
    each = p * (1 - p)
    variance, excess = np.bincount(items, each, num_items), np.bincount(items, each * (1 - 6 * each), num_items)
    open_ = variance > 0
    z = np.full(num_items, np.nan)
    z[open_] = (observed[open_] - expected[open_]) / np.sqrt(variance[open_])
    count = int(open_.sum())
    total = np.bincount(items, minlength=num_items)
    return z, {
        "sd": float(np.sqrt(np.mean(z[open_] ** 2))) if count else None,
        "error": float(np.sqrt(np.sum(2 + excess[open_] / variance[open_] ** 2)) / (2 * count)) if count else None,
        "items": count,
        "bands": {
            name: {
                "items": int(mask.sum()),
                "rows": int(total[mask].sum()),
                "share": _ratio(observed[mask].sum(), total[mask].sum()),
                "expected": _ratio(expected[mask].sum(), total[mask].sum()),
            }
            for name, mask in bands.items()
        },
        "share per user": _quantiles(share[rows > 0]),
    }


def _trend(part: Interactions, top: np.ndarray) -> list[float] | None:
    """Share of top items in each tenth of the users' lists, in file order; None for an empty part.

    Row k of a list of n covers the interval [k / n, (k + 1) / n] and counts in each tenth by its overlap with it. So
    every list contributes a tenth of its length to every tenth, and all tenths have the same users.
    """
    if not len(part):
        return None
    users = part.user_indices
    hits = top[part.item_indices[np.argsort(users, kind="stable")]].astype(np.float64)
    counts = np.bincount(users)
    starts = np.cumsum(counts) - counts
    hits, up_to = np.append(hits, 0.0), np.concatenate([[0.0], np.cumsum(hits)])
    reached = []
    for tenth in range(TENTHS + 1):
        whole, rest = np.divmod(counts * tenth, TENTHS)
        inside = starts + whole
        reached.append(float(np.sum(up_to[inside] - up_to[starts] + hits[inside] * rest / TENTHS)))
    shares: list[float] = (np.diff(reached) * TENTHS / len(part)).tolist()
    return shares


def _leaks(parts: Mapping[str, Interactions]) -> dict[str, float | int | None]:
    """How much of the future is in train, and where the order of a user's rows is ambiguous.

    Returns:
        Share of train rows later than the first test row of all users, and later than the first test row of the same
        user; number of test rows whose item has only later train rows, and of these items; number of users with
        several rows of equal time, and with rows of equal time in different parts, where leave-last-out would depend
        on the order of the file; share of a user's consecutive rows, within a part in file order, that do not go back
        in time.
    """
    columns = ["user", "item", "time"]
    frame = pl.concat(part.frame.select(columns, part=pl.lit(code)) for code, part in enumerate(parts.values()))
    train, test = parts["train"].frame.select(columns), parts["test"].frame.select(columns)
    first = test.group_by("user").agg(first=pl.col("time").min())
    own = train.join(first, on="user").filter(pl.col("time") > pl.col("first"))
    appeared = train.group_by("item").agg(appeared=pl.col("time").min())
    early = test.join(appeared, on="item").filter(pl.col("time") < pl.col("appeared"))
    moments = frame.group_by("user", "time").agg(rows=pl.len(), across=pl.col("part").min() != pl.col("part").max())
    lists = frame.sort("user", "part", maintain_order=True)
    neighbours = (pl.col("user") == pl.col("user").shift()) & (pl.col("part") == pl.col("part").shift())
    forward = pl.col("time") >= pl.col("time").shift()
    steps = lists.select(forward=forward, within=neighbours).filter("within")
    return {
        "train rows after the first test row": _ratio(
            train.filter(pl.col("time") > test["time"].min()).height, len(train)
        ),
        "train rows after the user's first test row": _ratio(len(own), len(train)),
        "test rows of items not yet in train": len(early),
        "items not yet in train": early["item"].n_unique(),
        "users with ties": moments.filter(pl.col("rows") > 1)["user"].n_unique(),
        "users with ties across parts": moments.filter("across")["user"].n_unique(),
        "file order that is order of time": _ratio(steps.filter("forward").height, len(steps)),
    }


def _correlation(one: np.ndarray | None, other: np.ndarray) -> float | None:
    """Pearson correlation over the items that have both z-scores; None where it is undefined."""
    if one is None:
        return None
    both = ~np.isnan(one) & ~np.isnan(other)
    if both.sum() < 2 or not (one[both].std() and other[both].std()):
        return None
    return float(np.corrcoef(one[both], other[both])[0, 1])


def _distinct(values: np.ndarray) -> int:
    return pl.Series(values).n_unique()


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _quantiles(values: np.ndarray) -> dict[str, float]:
    """Named quantiles; empty for no values."""
    return {name: float(np.quantile(values, level)) for name, level in QUANTILES.items() if len(values)}


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _pm(value: float | None, error: float | None) -> str:
    return "-" if value is None or error is None else f"{value:.3f} (random 1 ± {error:.3f})"


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    return tabulate(list(rows), head, tablefmt="plain", disable_numparse=True).splitlines()
