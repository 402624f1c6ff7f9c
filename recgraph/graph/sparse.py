"""Sparse matrices stored by rows, and their products."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


class SparseRows(NamedTuple):
    """Holds a sparse matrix by rows, with 32-bit indices.

    Attributes:
        starts: where the entries of each row begin, and where the last row ends.
        columns: column of each entry.
        values: value of each entry.
    """

    starts: Int[Tensor, "rows+1"]
    columns: Int[Tensor, "entries"]
    values: Float[Tensor, "entries"]

    @property
    def num_rows(self) -> int:
        """The number of rows, empty ones included."""
        return len(self.starts) - 1

    def csr(self, num_columns: int) -> Float[Tensor, "rows columns"]:
        """The matrix as a torch CSR tensor, for products with sparse matrices."""
        return csr_tensor(self.starts, self.columns, self.values, (self.num_rows, num_columns))

    def select(self, rows: Int[Tensor, "chosen"]) -> SparseRows:
        """Some of the rows, in the order given."""
        first = self.starts[rows].long()
        counts = self.starts[rows + 1].long() - first
        ends = counts.cumsum(0)
        places = torch.repeat_interleave(first - ends + counts, counts)
        places += torch.arange(len(places), device=places.device)
        return SparseRows(F.pad(ends, (1, 0)).int(), self.columns[places], self.values[places])

    def __matmul__(self, table: Float[Tensor, "columns width"]) -> Float[Tensor, "rows width"]:
        """The product with a dense matrix; `recgraph.graph.propagate.product` says why by `embedding_bag`."""
        return F.embedding_bag(
            self.columns, table, self.starts, mode="sum", per_sample_weights=self.values, include_last_offset=True
        )


def csr_tensor(starts: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Float[Tensor, "rows columns"]:
    """A torch tensor in CSR form, with the indices used as they are."""
    with warnings.catch_warnings():
        # torch warns once per process that CSR is in beta; the parts used here are tested against dense ones.
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(starts, columns, values, size, check_invariants=False)


def row_starts(rows: Int[Tensor, "entries"], count: int) -> Int[Tensor, "count+1"]:
    """CSR row pointers of entries sorted by row; a search, since bincount would make the host wait for a GPU."""
    return torch.searchsorted(rows, torch.arange(count + 1, device=rows.device), out_int32=True)


def row_sums(values: Float[Tensor, "entries"], starts: Int[Tensor, "rows+1"]) -> Float[Tensor, "rows"]:
    """The sum of the values of each row, whose entries are contiguous."""
    return torch.segment_reduce(values, "sum", offsets=starts.long(), unsafe=True)


def dense_product(left: Float[Tensor, "rows inner"], right: Float[Tensor, "inner columns"]) -> Tensor:
    """The product of two sparse CSR matrices as a dense one.

    On a CPU, MKL accumulates sparse rows into dense ones in a fifth of the time that a sparse result takes.
    """
    if left.is_cuda:
        return (left @ right).to_dense()
    return torch.addmm(left.values().new_zeros(()), left, right, beta=0)


def transpose(matrix: SparseRows, num_columns: int) -> SparseRows:
    """The transpose of a matrix, with sorted columns in each row."""
    rows = torch.repeat_interleave(matrix.starts.diff())
    order = torch.argsort(matrix.columns, stable=True)
    counts = torch.bincount(matrix.columns, minlength=num_columns)
    return SparseRows(F.pad(counts.cumsum(0), (1, 0)).int(), rows[order].int(), matrix.values[order])
