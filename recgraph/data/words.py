"""Vectors of words from the company they keep in a corpus.

How much more often than by chance two words stand near each other, their pointwise mutual information, is what word2vec
factorises without saying so (Levy & Goldberg, "Neural word embedding as implicit matrix factorization", NIPS 2014).
Where it is positive it is a sparse matrix, and a truncated SVD of that gives vectors outright.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

SMOOTHING = 0.75
"""Power of a context's count, so that rare ones are not taken for telling (Levy, Goldberg & Dagan, "Improving
distributional similarity with lessons learned from word embeddings", TACL 2015, section 3.2)."""

TINY = 1e-6
"""A singular value below this is a rounding error."""


def near(places: Int[np.ndarray, "tokens 2"], size: int, window: int) -> sparse.csr_matrix:
    """How often each word has each other at most `window` places away in the same text [size, size]; symmetric.

    Args:
        places: (text, word) of each word of the corpus, in order.
        size: words there are.
        window: places to either side.
    """
    counts = sparse.csr_matrix((size, size))
    for gap in range(1, window + 1):
        left, right = places[:-gap], places[gap:]
        same = left[:, 0] == right[:, 0]
        pairs = (left[same, 1], right[same, 1])
        counts = counts + sparse.csr_matrix((np.ones(int(same.sum())), pairs), (size, size))
    return (counts + counts.T).tocsr()


def positive_pmi(counts: sparse.csr_matrix, shift: float) -> sparse.csr_matrix:
    """max(0, ln[P(w, c) / (P(w) · P_.75(c))] - ln shift), where P_.75(c) is as #(c)^.75; with `shift` k, what word2vec
    with k negatives factorises. Pairs that never meet are zeros."""
    of_word = np.asarray(counts.sum(1)).ravel()
    of_context = of_word**SMOOTHING  # counts are symmetric
    pairs = counts.tocoo()
    chance = of_word[pairs.row] * of_context[pairs.col] / of_context.sum()
    values = np.log(pairs.data / chance) - np.log(shift)
    kept = values > 0
    return sparse.csr_matrix((values[kept], (pairs.row[kept], pairs.col[kept])), counts.shape)


def word_vectors(
    places: Int[np.ndarray, "tokens 2"], size: int, *, window: int, shift: float, dim: int
) -> Float[np.ndarray, "size dim"]:
    """U·√Σ of the positive PMI, which is UΣVᵀ by a truncated SVD; zeros for a word that is near none beyond chance.

    The square root weighs better than Σ itself (TACL 2015, section 3.3). Memory is linear in the pairs that meet.

    Args:
        places: (text, word) of each word of the corpus, in order.
        size: words there are.
        window: places to either side that count as near.
        shift: k of the shifted PMI; 1 for none.
        dim: width, no more than `size`.
    """
    from sklearn.decomposition import TruncatedSVD  # slow to import

    information = positive_pmi(near(places, size, window), shift)
    svd = TruncatedSVD(min(dim, size), random_state=0)
    if not information.nnz:
        return np.zeros((size, svd.n_components))
    scaled = svd.fit_transform(information)  # UΣ
    return scaled / np.sqrt(np.maximum(svd.singular_values_, TINY))


def without_common(
    words: Float[np.ndarray, "size dim"], texts: Float[np.ndarray, "rows dim"]
) -> Float[np.ndarray, "size dim"]:
    """Vectors of words without the direction that texts have in common, the first singular vector of theirs.

    Arora, Liang & Ma, "A simple but tough-to-beat baseline for sentence embeddings", ICLR 2017, algorithm 1. A text is
    a sum over its words, so what is taken from these is taken from it.
    """
    _, directions = np.linalg.eigh(texts.T @ texts)
    common = directions[:, -1]
    return words - np.outer(words @ common, common)
