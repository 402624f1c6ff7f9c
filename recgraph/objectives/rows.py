"""Losses that are a mean over rows, computed in chunks so that memory stays bounded however large the batch.

Large batches are how graph encoders get fast: one propagation serves all rows of a step. What grows with the batch is
the memory for the loss: rows × candidates scores, and a vector for each where every row has its own negatives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from recgraph.encoders.base import Total, gathering
from recgraph.objectives.base import masked_mean
from recgraph.types import Batch, Ego, Encoding, Past

CHUNK_FLOATS = 2**23
"""Floats of a chunk's largest tensor, or of all that a head keeps for its gradient: 32 MB.

Of the powers of two from 2^15 to 2^24 it was the fastest for InfoNCE, differentiated by autograd, of 2,000 rows by
2,000 and by 40,000 candidates; for 8,000 by 8,000, another (2^20) was faster by at most a quarter."""

CPU_ROWS = 256
"""Rows of a chunk on a CPU for losses that compute their own gradient. Uniformity of 2,048 rows, a triangle of pairs,
takes half as long as in one square. InfoNCE of 1,900 by 1,900 is as fast with any number from 128 on."""

RowLosses = Callable[[Batch, Encoding], Float[Tensor, "*batch"]]


def mean_over_rows(
    losses: RowLosses, batch: Batch, encoding: Encoding, *, width: int, parameters: Sequence[Tensor] = ()
) -> Float[Tensor, ""]:
    """Mean over the valid rows of `losses`, with the value and the gradient of the unchunked mean.

    A batch that fits one chunk takes the plain path. Otherwise each chunk's gradient is computed right after its loss
    and its autograd graph is freed; the gradient cannot be differentiated again.

    Args:
        losses: (part of the batch, its encoding) -> the loss of each row. A row's loss may depend on the row, its set
            of negatives and the item table, not on other rows.
        batch: the whole batch; a shared set and its rows are one chunk.
        encoding: of the whole batch.
        width: floats per row, of the largest tensor that `losses` makes, or of all that a head keeps for the gradient.
        parameters: other tensors that `losses` depends on (parameters of heads and of the objective).
    """
    positions = max(1, batch.items[:1].numel())  # rows may be vectors of positions
    parts = list(batch.parts(max(1, CHUNK_FLOATS // max(1, width * positions))))
    if len(parts) == 1:
        return masked_mean(losses(parts[0][1], encoding), batch.mask)
    count = batch.num_valid

    def share(part: Batch, encoding: Encoding) -> Tensor:
        values = losses(part, encoding)
        return (values if part.mask is None else torch.where(part.mask, values, 0)).sum() / count

    ego_query, ego_items = encoding.ego
    tensors = [tensor for tensor in parameters if tensor.requires_grad]
    return _Walk.apply(share, parts, encoding.past, encoding.query, ego_query, encoding.items, ego_items, *tensors)


def row_chunks(rows: Tensor, *, width: int) -> Iterator[slice]:
    """Slices of rows for losses that compute their own gradient: memory stays bounded, and small on a CPU.

    Args:
        rows: what is to be sliced.
        width: floats of the largest tensor that a row makes.
    """
    size = max(1, CHUNK_FLOATS // max(1, width))
    if rows.device.type == "cpu":
        size = min(size, CPU_ROWS)
    return (slice(start, start + size) for start in range(0, len(rows), size))


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Make a `backward` that returns gradients from the forward pass, constants to autograd, refuse create_graph.

    `once_differentiable` raises only if the incoming gradient requires grad, which that of a loss does not.
    """

    @wraps(backward)
    def refusing(ctx: Any, *arriving: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(f"{type(ctx).__name__}: this gradient cannot be differentiated again (create_graph)")
        return backward(ctx, *arriving)

    return refusing


class _Walk(torch.autograd.Function):
    """Sum of `share` over the parts; its gradient is computed part by part in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        share: RowLosses,
        parts: Sequence[tuple[slice, Batch]],
        past: Past | None,
        query: Tensor,
        ego_query: Tensor | None,
        items: Tensor,
        ego_items: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        by_row = [query, ego_query]
        whole = [items, ego_items]
        wanted = ctx.needs_input_grad[3:]
        totals = [
            Total(tensor) if needed and tensor is not None else None
            for tensor, needed in zip((*by_row, *whole, *parameters), wanted, strict=True)
        ]
        tables = [
            _leaf(table) if gathered is None else gathering(table, gathered)
            for table, gathered in zip(whole, totals[len(by_row) :], strict=False)
        ]
        total = query.new_zeros((), dtype=torch.promote_types(query.dtype, torch.float32))
        for where, part in parts:
            rows: list[Any] = [None if tensor is None else _leaf(tensor[where]) for tensor in by_row]
            with torch.enable_grad():
                before = past and past.part(where)
                value = share(part, Encoding(rows[0], tables[0], Ego(rows[1], tables[1]), past=before))
            total += value.detach()
            if not any(wanted):
                continue
            leaves: list[Any] = [
                leaf for leaf, needed in zip((*rows, *tables, *parameters), wanted, strict=True) if needed
            ]
            found = iter(torch.autograd.grad(value, leaves, allow_unused=True))
            for number, sums in enumerate(totals):
                if sums is not None and (new := next(found)) is not None:
                    (sums.begun()[where] if number < len(by_row) else sums.begun()).add_(new)
        ctx.gradients = [None if sums is None else sums.result() for sums in totals]
        return total

    @staticmethod
    @first_order
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [None if gradient is None else gradient * arriving for gradient in ctx.gradients]
        return None, None, None, *scaled


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()
