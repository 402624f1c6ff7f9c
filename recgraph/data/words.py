"""Word vectors from co-occurrence counts in a corpus.

word2vec implicitly factorises the pointwise mutual information (PMI) of words: the log of how much more often than by
chance they co-occur (Levy & Goldberg, "Neural word embedding as implicit matrix factorization", NIPS 2014). Its
positive part is a sparse matrix, whose truncated SVD gives the vectors directly.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

SMOOTHING = 0.75
"""Exponent of context counts, which reduces PMI's bias towards rare contexts (Levy, Goldberg & Dagan, "Improving
distributional similarity with lessons learned from word embeddings", TACL 2015, section 3.2)."""

TINY = 1e-6
"""Singular values below this are rounding errors."""


def near(places: Int[np.ndarray, "tokens 2"], size: int, window: int) -> sparse.csr_matrix:
    """How often each two words are at most `window` positions apart in a text [size, size]; symmetric.

    Args:
        places: (text, word) of each word of the corpus, in order.
        size: number of distinct words.
        window: positions to either side.
    """
    counts = sparse.csr_matrix((size, size))
    for gap in range(1, window + 1):
        left, right = places[:-gap], places[gap:]
        same = left[:, 0] == right[:, 0]
        pairs = (left[same, 1], right[same, 1])
        counts = counts + sparse.csr_matrix((np.ones(int(same.sum())), pairs), (size, size))
    return (counts + counts.T).tocsr()


def positive_pmi(counts: sparse.csr_matrix, shift: float) -> sparse.csr_matrix:
    """max(0, ln[P(w, c) / (P(w) · P_.75(c))] - ln shift), where P_.75(c) ∝ #(c)^.75.

    `shift` corresponds to the number of negatives in word2vec. Pairs that never co-occur have the value 0.
    """
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
    """U·√Σ from the truncated SVD UΣVᵀ of the positive PMI; zeros for a word that co-occurs with none beyond chance.

    √Σ works better than Σ (TACL 2015, section 3.3). Memory is linear in the number of pairs that co-occur.

    Args:
        places: (text, word) of each word of the corpus, in order.
        size: number of distinct words.
        window: positions to either side that count as co-occurrence.
        shift: k of the shifted PMI; 1 for none.
        dim: width; at most `size` is used.
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
    """Word vectors without the direction that all texts share: the first singular vector of the text vectors.

    Arora, Liang & Ma, "A simple but tough-to-beat baseline for sentence embeddings", ICLR 2017, algorithm 1. A text's
    vector is a sum over its words, so removing the direction from these removes it from the text.
    """
    _, directions = np.linalg.eigh(texts.T @ texts)
    common = directions[:, -1]
    return words - np.outer(words @ common, common)
