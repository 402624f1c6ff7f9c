"""SLIM: sparse linear weights between items, learned by an elastic net.

Ning and Karypis, 2011, https://doi.org/10.1109/ICDM.2011.134. For an item with the column a of R, the weights w of all
items, non-negative and 0 for the item itself, minimise

    ½ ‖a - R w‖² + ½ l2 ‖w‖² + l1 ‖w‖₁
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse

from recgraph.baselines.linear import SparseWeights
from recgraph.data.interactions import Interactions
from recgraph.graph.sparse import SparseRows, transpose
from recgraph.registry import baselines
from recgraph.types import PositiveFloat, PositiveInt

CHUNK = 512
"""Items solved per sparse matrix product, which finds the items that share users with them."""


@baselines.register("slim")
class SLIM(SparseWeights):
    """Regresses each item on the items that share users with it, by an elastic net.

    The other items can be left out without changing the solution: if an item shares no user with the target, the loss
    has a slope of at least l1 at weight 0, and weights cannot be negative. Fitting Gowalla takes 53 seconds on two
    cores.

    The defaults are those of the BARS benchmark for Gowalla: alpha 0.005 and l1_ratio 1e-6 in scikit-learn, which
    divides the first term by the number of users.

    Args:
        l1: weight of the sum of weights, above 0 (scikit-learn needs it to judge convergence). More is sparser.
        l2: weight of their squares, above 0.
        max_iter: upper bound on sweeps over an item's weights.
        tolerance: duality gap at which an item has converged, relative to ‖a‖².
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        l1: PositiveFloat = 1.5e-4,
        l2: PositiveFloat = 150.0,
        max_iter: PositiveInt = 1000,
        tolerance: PositiveFloat = 1e-4,
    ) -> None:
        super().__init__(num_users, num_items)
        self.l1, self.l2, self.max_iter, self.tolerance = l1, l2, max_iter, tolerance

    def fit(self, train: Interactions) -> None:
        """Keep the histories and solve for the weights of each item.

        Warns:
            sklearn.exceptions.ConvergenceWarning: an item has not converged after `max_iter` sweeps.
        """
        super().fit(train)
        matrix = train.csr().astype(np.float64).tocsc()
        columns = [weights for start in range(0, self.num_items, CHUNK) for weights in self._solve(matrix, start)]
        ends = np.cumsum([0, *(len(items) for items, _ in columns)])
        by_target = SparseRows(
            torch.from_numpy(ends).int(),
            torch.from_numpy(np.concatenate([items for items, _ in columns])).int(),
            torch.from_numpy(np.concatenate([values for _, values in columns])).float(),
        )
        self.weights = transpose(by_target, self.num_items)

    def _solve(self, matrix: sparse.csc_matrix, start: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each item of a chunk, the items with positive weights, and these weights."""
        from sklearn.linear_model import enet_path  # slow to import

        num_users = matrix.shape[0]
        shared = (matrix[:, start : start + CHUNK].T @ matrix).tocsr()
        solved = []
        for row in range(shared.shape[0]):
            candidates = np.sort(shared.indices[shared.indptr[row] : shared.indptr[row + 1]])
            candidates = candidates[candidates != start + row]
            if not len(candidates):
                solved.append((candidates, np.zeros(0)))
                continue
            target = matrix[:, [start + row]].toarray()[:, 0]
            weights = enet_path(
                matrix[:, candidates],
                target,
                alphas=[(self.l1 + self.l2) / num_users],
                l1_ratio=self.l1 / (self.l1 + self.l2),
                positive=True,
                check_input=False,
                precompute=False,
                max_iter=self.max_iter,
                tol=self.tolerance,
            )[1][:, 0]
            kept = weights > 0
            solved.append((candidates[kept], weights[kept]))
        return solved
