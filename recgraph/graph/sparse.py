"""A sparse matrix by rows, for products with dense ones."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


class SparseRows(NamedTuple):
    """A sparse matrix by rows, with 32-bit indices.

    Attributes:
        starts: where each row begins among the entries, and where the last one ends.
        columns: of each entry.
        values: of each entry.
    """

    starts: Int[Tensor, "rows+1"]
    columns: Int[Tensor, "entries"]
    values: Float[Tensor, "entries"]

    @property
    def num_rows(self) -> int:
        """Rows, empty ones too."""
        return len(self.starts) - 1

    def csr(self, num_columns: int) -> Float[Tensor, "rows columns"]:
        """The same as a torch tensor, for products with sparse matrices."""
        with warnings.catch_warnings():  # torch announces once a process that CSR is in beta
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            size = (self.num_rows, num_columns)
            return torch.sparse_csr_tensor(self.starts, self.columns, self.values, size, check_invariants=False)

    def __matmul__(self, table: Float[Tensor, "columns width"]) -> Float[Tensor, "rows width"]:
        """The product with a dense matrix; `recgraph.graph.propagate` says why by `embedding_bag`."""
        return F.embedding_bag(
            self.columns, table, self.starts, mode="sum", per_sample_weights=self.values, include_last_offset=True
        )
