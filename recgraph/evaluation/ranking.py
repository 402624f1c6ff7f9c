"""Full-catalogue ranking for every user, and its evaluation.

Scores are computed, masked and reduced to the top K for a chunk of users at a time, so that memory never holds more
than a chunk of the users × items matrix. `torch.topk` would take longer than the matrix product that computes the
scores; `_largest` takes less. It also breaks ties exactly, unlike `torch.topk`: among equal scores the lower item index
comes first, within the list and at its end, on any device and for any chunk size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor

from recgraph.errors import ConfigError, DataError
from recgraph.evaluation.matrices import check_disjoint, count_negatives, padded, pattern
from recgraph.evaluation.metrics import PER_USER, num_sampled, parse, sampled, scope
from recgraph.files import replacing

Scores = Callable[[Int[Tensor, "batch"]], Float[Tensor, "batch items"]]
"""Users -> scores of all items of the catalogue, a tensor or a numpy array; higher is better, and an item at -inf is
never recommended."""

CHUNK_SCORES = 2**22
"""Number of scores per chunk: 16 MB, which the C library's allocator reuses for the next chunk. Above its limit of 32
MB, every chunk is new memory, and a matrix product into new memory takes two to three times as long."""

CHUNK_USERS = 64
"""Minimum number of users per chunk: matrix products with fewer rows are slow."""

BLOCK = 96
"""Block width of `_largest`, which first reduces each block to its maximum. Among 32 to 256 it is the fastest, or
within a tenth of that, for 10,000 to 400,000 items and K of 10 to 50: multiples of 32 floats are reduced by whole
vectors, and 96 K candidates are enough for the faster algorithm of `torch.topk`, which starts at 64 (K + 1)."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Ranked lists and metrics.

    Attributes:
        users: index of each user who has test items, ascending.
        lists: the top items of each of these users, best first; short lists are padded with -1.
        per_user: value of each per-user metric, aligned with `users`.
        summary: value of each requested metric: means of `per_user`, and the whole-list metrics.
        num_skipped: number of users without test items, who are left out of all metrics.
        seconds: time for scoring, ranking and computing metrics.
    """

    users: np.ndarray = field(repr=False)
    lists: Int[Tensor, "users k"] = field(repr=False)
    per_user: dict[str, np.ndarray] = field(repr=False)
    summary: dict[str, float]
    num_skipped: int
    seconds: float

    @property
    def num_users(self) -> int:
        """Number of users who have test items."""
        return len(self.users)

    def write(self, path: Path) -> None:
        """Write the per-user values as parquet: a column `user` (the index), then one for each metric."""
        import polars as pl  # slow to import, and not needed for ranking

        with replacing(path) as temporary:
            pl.DataFrame({"user": self.users, **self.per_user}).write_parquet(temporary)


def evaluate(
    scores: Scores,
    *,
    test: sparse.csr_matrix,
    seen: sparse.csr_matrix | None = None,
    candidates: sparse.csr_matrix | None = None,
    metrics: Sequence[str],
    popularity: np.ndarray | None = None,
    chunk: int | None = None,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Rank the full catalogue, or only `candidates`, once for all metrics, for the users with test items.

    Args:
        scores: users (on `device`) -> scores of all items, on any device.
        test: relevant items, users × items; every non-zero entry counts the same.
        seen: items that are never recommended, of the same shape: at test time, those of train and of validation.
        candidates: users × items, including the test items; only these are ranked, and metrics are then named after the
            number of negatives, as in "ndcg@10:sampled-99".
        metrics: per-user metrics and whole-list metrics, such as "ndcg@10" and "coverage@10".
        popularity: training interactions of each item; required by popularity@K and cold_share@K.
        chunk: number of users scored at once; None chooses one that suits a CPU, while a GPU gains from thousands.
        device: where `scores` expects its users.

    Raises:
        ConfigError: no metric is given, one is unknown, malformed, of clicks or has a suffix such as ":cold", or
            one that requires `popularity` lacks it.
        DataError: a shape is wrong, no user has a test item or a negative, a test item or candidate is also in `seen`,
            a test item is not a candidate, or a score is NaN.
    """
    start = time.perf_counter()
    parsed = {text: parse(text) for text in metrics}
    wrong = [text for text, (_, _, k) in parsed.items() if num_sampled(text) or scope(text) or not k]
    if wrong or not parsed:
        raise ConfigError(f"metrics: expected at least one, all named as 'ndcg@10' is, got {wrong}")
    if popularity is None and (of := [t for t, found in parsed.items() if found[0] in ("popularity", "cold_share")]):
        raise ConfigError(f"metrics: {of[0]} needs `popularity`, the training interactions of each item")
    num_users, num_items = test.shape
    counts = torch.zeros(num_items) if popularity is None else torch.from_numpy(np.asarray(popularity))
    if counts.shape != (num_items,):
        raise DataError(f"popularity: expected a count for each of {num_items} items, got {tuple(counts.shape)}")
    test = pattern(test)
    seen = sparse.csr_matrix(test.shape, dtype=bool) if seen is None else pattern(seen)
    check_disjoint(test, seen)

    users = np.flatnonzero(np.diff(test.indptr))
    if not len(users):
        raise DataError(f"test holds no item of any of its {num_users} users: nothing to measure")
    if candidates is not None:
        candidates = pattern(candidates)
        negatives = count_negatives(candidates, test, seen)
        parsed = {sampled(text, negatives): found for text, found in parsed.items()}
    longest = min(max(k for _, _, k in parsed.values()), num_items)  # no list is longer
    lists = top_k(scores, torch.from_numpy(users).to(device), seen, longest, chunk, candidates)
    per_user = judge(lists, test[users], [text for text, (name, _, _) in parsed.items() if name in PER_USER])
    summary: dict[str, float] = {}
    for text, (_, metric, k) in parsed.items():
        if text in per_user:
            summary[text] = float(per_user[text].mean())
        else:
            shown = lists[:, :k]
            recommended = torch.bincount(shown[shown >= 0], minlength=num_items)
            summary[text] = float(metric(recommended, counts))
    return Evaluation(users, lists, per_user, summary, num_users - len(users), time.perf_counter() - start)


def judge(
    lists: Int[Tensor, "users k"], test: sparse.csr_matrix, metrics: Sequence[str]
) -> dict[str, Float[np.ndarray, "users"]]:
    """Compute per-user metrics of ranked lists.

    Args:
        lists: items, best first; -1 where a list is short.
        test: relevant items of the users of the lists, at least one each.
        metrics: per-user metrics, whose K is at most the lists' length, or above it where they hold all there is.
    """
    hits, relevant = _hits(lists, test), torch.from_numpy(np.diff(test.indptr))
    parsed = {text: parse(text) for text in metrics}
    # Precision divides by K also where the catalogue, and so a list, is shorter.
    part = {text: min(1.0, lists.shape[1] / k) if name == "precision" else 1.0 for text, (name, _, k) in parsed.items()}
    return {text: part[text] * metric(hits[:, :k], relevant).numpy() for text, (_, metric, k) in parsed.items()}


@torch.no_grad()
def top_k(
    scores: Scores,
    users: Int[Tensor, "users"],
    seen: sparse.csr_matrix | None,
    k: int,
    chunk: int | None = None,
    candidates: sparse.csr_matrix | None = None,
) -> Int[Tensor, "users k"]:
    """The K best items of each user, best first; among equal scores the lower item index comes first.

    Args:
        scores: users -> scores of all items.
        users: users to rank for, on the device that `scores` expects.
        seen: users × items; each stored entry is an item never to recommend to that user, candidate or not.
        k: length of each list, at least 1.
        chunk: number of users scored at once, at least 1; None chooses one that suits a CPU.
        candidates: users × items, columns sorted in each row; only stored entries are recommended. None for all.

    Returns:
        Item indices on the CPU. A list ends in -1 if the user has fewer than K items left to recommend.

    Raises:
        ConfigError: `k` or `chunk` is below 1.
        DataError: scores are not one floating-point row of all items for each user, or an unmasked score is NaN.
    """
    if k < 1 or (chunk is not None and chunk < 1):
        raise ConfigError(f"top_k: expected k and chunk of at least 1, got k {k} and chunk {chunk}")
    rows = users.cpu().numpy()
    entries = sparse.csr_matrix((len(users), 0)) if seen is None else seen[rows]
    among = None if candidates is None else candidates[rows]
    num_items = entries.shape[1]  # 0: not known
    chunk = chunk or users_at_once(num_items or CHUNK_SCORES)
    masked, ends = _keys(entries), entries.indptr
    lists = [torch.empty(0, k, dtype=torch.int64)]
    for start in range(0, len(users), chunk):
        part = users[start : start + chunk]
        inside = masked[ends[start] : ends[start + len(part)]] - start * num_items
        # The scores get no name, so that they are freed before the next chunk's, which then reuse their warm memory.
        own = None if among is None else padded(among[start : start + len(part)])
        lists.append(_ranked(_checked(scores(part), len(part), num_items), part, inside, own, k))
    return torch.cat(lists)


def users_at_once(num_items: int) -> int:
    """How many users to score in one chunk on a CPU."""
    return max(CHUNK_USERS, CHUNK_SCORES // num_items)


def _checked(scores: Tensor | np.ndarray, num_users: int, num_items: int) -> Float[Tensor, "rows items"]:
    """Scores as a tensor, if their shape and type are valid; `num_items` is 0 if it is not known."""
    scores = torch.as_tensor(scores)  # of numpy, too
    expected = (num_users, num_items or scores.shape[-1])
    if scores.shape != expected or not scores.is_floating_point():
        raise DataError(
            f"scores: expected floating point of shape {expected}, got {scores.dtype} of {tuple(scores.shape)}"
        )
    return scores


@torch.inference_mode()  # so that scores made in inference mode can be masked as well
def _ranked(
    scores: Float[Tensor, "rows items"],
    users: Int[Tensor, "rows"],
    masked: Int[Tensor, "entries"],
    own: Int[Tensor, "rows width"] | None,
    k: int,
) -> Int[Tensor, "rows k"]:
    """`top_k` of one chunk; `masked` has positions in its flattened scores, `own` the candidates from `padded`."""
    flat = scores.contiguous().view(-1)  # a row expanded over users would share its memory among them
    masked = masked.to(flat.device)
    original = flat[masked]
    flat[masked] = -torch.inf
    ranked = flat.view(scores.shape)
    if own is not None:  # in ascending order, so that ties are still broken by item index
        own = own.to(flat.device)
        ranked = ranked.gather(1, own.clamp(min=0)).masked_fill(own < 0, -torch.inf)
    best, items = _largest(ranked, min(k, ranked.shape[1]))
    items = items if own is None else own.gather(1, items)
    flat[masked] = original  # the scores may be a tensor of the model
    if (broken := best[:, 0].isnan().cpu()).any():  # NaN sorts first
        raise DataError(f"scores of user {int(users.cpu()[broken][0])} hold NaN: cannot rank them")
    items = items.masked_fill(best == -torch.inf, -1).cpu()
    return torch.nn.functional.pad(items, (0, k - items.shape[1]), value=-1)


def _largest(values: Float[Tensor, "rows width"], k: int) -> tuple[Float[Tensor, "rows k"], Int[Tensor, "rows k"]]:
    """The k largest of each row, best first, and their positions; among equals the lower position comes first.

    Wide rows are cut into blocks of neighbours, and only the k blocks with the largest maximum are searched. This is
    exact, ties included, because blocks with equal maximum are also taken in order: if one of the k largest values were
    in a block not taken, each of the k blocks taken would contain a value that comes before it.
    """
    width = values.shape[1]
    num_blocks = width // BLOCK
    if num_blocks < 5 * k:  # measured: with fewer blocks, skipping some does not pay off
        return _largest_of_few(values, k)
    whole = num_blocks * BLOCK
    blocks = values[:, :whole].unflatten(1, (num_blocks, BLOCK))
    chosen = _largest_of_few(blocks.amax(2), k)[1].sort(dim=1).values
    inside = blocks.gather(1, chosen[:, :, None].expand(-1, -1, BLOCK)).flatten(1)
    best, position = _largest_of_few(torch.cat([inside, values[:, whole:]], 1), k)
    chosen = torch.nn.functional.pad(chosen, (0, 1), value=num_blocks)  # the remainder is one more, shorter block
    return best, chosen.gather(1, position // BLOCK) * BLOCK + position % BLOCK


def _largest_of_few(
    values: Float[Tensor, "rows width"], k: int
) -> tuple[Float[Tensor, "rows k"], Int[Tensor, "rows k"]]:
    """`_largest` without blocks: torch.topk, corrected in rows with ties."""
    width = values.shape[1]
    best, position = values.topk(min(k + 1, width), dim=1)
    # Items at -inf are never recommended, so their order does not matter.
    tied = ((best[:, 1:] == best[:, :-1]) & (best[:, 1:] > -torch.inf)).any(1)
    best, position = best[:, :k], position[:, :k]
    if tied.any():
        scores, places = best[tied], position[tied]
        last = scores[:, -1:]
        # Of the values equal to the last one, the lowest positions are kept: those with the largest keys.
        keys = torch.where(values[tied] == last, -torch.arange(width, device=values.device), -width)
        lowest = -keys.topk(k, dim=1).values
        rank = torch.arange(k, device=values.device) - (scores != last).sum(1, keepdim=True)  # NaN sorts first
        places = torch.where(rank < 0, places, lowest.gather(1, rank.clamp(min=0)))
        places, order = places.sort(dim=1)
        order = scores.gather(1, order).argsort(dim=1, descending=True, stable=True)
        position[tied] = places.gather(1, order)
    return best, position


def _keys(matrix: sparse.csr_matrix) -> Int[Tensor, "entries"]:
    """row × width + column of each stored entry, ascending if columns are sorted in each row."""
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return torch.from_numpy(rows * matrix.shape[1] + matrix.indices)


def _hits(items: Int[Tensor, "users k"], test: sparse.csr_matrix) -> Bool[Tensor, "users k"]:
    """True where an item is in its row of `test`, whose columns are sorted; False for -1."""
    relevant = _keys(test)
    wanted = torch.arange(len(items))[:, None] * test.shape[1] + items
    found = relevant[torch.searchsorted(relevant, wanted).clamp(max=len(relevant) - 1)]
    return (found == wanted) & (items >= 0)
