"""Views of histories change what they say, by as much as they say, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recgraph.types import MASK, Inputs, View
from recgraph.views import Crop, CropMaskReorder, ItemMask, Reorder


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def histories(sizes: list[int]) -> Tensor:
    """Left-padded; the items of each row are 1, 2, …"""
    width = max(1, *sizes)
    return torch.tensor([[0] * (width - size) + list(range(1, size + 1)) for size in sizes])


def changed(view: View, sizes: list[int], seed: int = 0) -> list[list[int]]:
    """The items of each row after the view; padding is checked to be on the left."""
    history = histories(sizes)
    found = view(Inputs(torch.arange(len(sizes)), history), generator(seed)).history
    assert found.shape == history.shape
    rows = []
    for row in found.tolist():
        items = [item for item in row if item]
        assert row == [0] * (len(row) - len(items)) + items
        rows.append(items)
    return rows


SIZES = st.lists(st.integers(0, 12), min_size=1, max_size=6)


@given(sizes=SIZES, share=st.sampled_from([0.1, 0.5, 0.6, 1.0]), seed=st.integers(0, 100))
def test_a_crop_is_a_run_of_the_right_length(sizes: list[int], share: float, seed: int) -> None:
    for size, items in zip(sizes, changed(Crop(share=share), sizes, seed), strict=True):
        assert len(items) == (max(1, int(size * share)) if size else 0)
        assert items == list(range(items[0], items[0] + len(items))) if items else True
        assert all(1 <= item <= size for item in items)


@given(sizes=SIZES, share=st.sampled_from([0.1, 0.3, 1.0]), seed=st.integers(0, 100))
def test_a_mask_hides_the_right_number_and_leaves_the_rest(sizes: list[int], share: float, seed: int) -> None:
    for size, items in zip(sizes, changed(ItemMask(share=share), sizes, seed), strict=True):
        assert len(items) == size
        assert items.count(MASK) == int(size * share)
        assert all(item in (MASK, place) for place, item in enumerate(items, start=1))


@given(sizes=SIZES, share=st.sampled_from([0.1, 0.6, 1.0]), seed=st.integers(0, 100))
def test_reordering_moves_one_run_of_the_right_length_at_most(sizes: list[int], share: float, seed: int) -> None:
    for size, items in zip(sizes, changed(Reorder(share=share), sizes, seed), strict=True):
        assert sorted(items) == list(range(1, size + 1))
        moved = [place for place, item in enumerate(items, start=1) if item != place]
        if moved:
            assert max(moved) - min(moved) < int(size * share)


@pytest.mark.parametrize(
    ("view", "outcome", "number"),
    [
        (Crop(share=0.5), lambda items: items[0], 4),  # a run of 3 of 6 starts at 1, 2, 3 or 4
        (ItemMask(share=0.2), lambda items: items.index(MASK), 6),
        (Reorder(share=0.4), tuple, 6),  # 2 of 6 in five places, shuffled or not
    ],
)
def test_every_outcome_comes_about(view: View, outcome: Callable[[list[int]], object], number: int) -> None:
    found = [outcome(items) for items in changed(view, [6] * 4000)]
    counts = [found.count(one) for one in set(found)]
    assert len(counts) == number
    if not isinstance(view, Reorder):
        assert max(counts) < 1.25 * min(counts)  # of 667 and 1000 each, five sd are 17% and 14%


def test_reordering_is_fair() -> None:
    found = [tuple(items) for items in changed(Reorder(share=1.0), [3] * 6000)]
    counts = [found.count(one) for one in set(found)]
    assert len(counts) == 6
    assert max(counts) < 1.3 * min(counts)


def test_one_of_three_is_drawn_for_each_row() -> None:
    rows = changed(CropMaskReorder(crop=0.5, mask=0.5, reorder=1.0), [8] * 900)
    cropped = sum(len(items) == 4 for items in rows)
    masked = sum(MASK in items for items in rows)
    shuffled = sum(len(items) == 8 and MASK not in items for items in rows)
    assert cropped + masked + shuffled == 900
    assert min(cropped, masked, shuffled) > 230  # 300 each; five sd are 71


@pytest.mark.parametrize("view", [Crop(), ItemMask(), Reorder(), CropMaskReorder()])
def test_same_generator_same_view_and_the_input_is_untouched(view: View) -> None:
    history = histories([5, 9, 0, 1])
    before, inputs = history.clone(), Inputs(torch.arange(4), history)
    one, two, other = (view(inputs, generator(seed)).history for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(history, before)


def test_positions_are_refused_for_steps_move() -> None:
    with pytest.raises(ValueError, match="give inputs a history and no positions"):
        Crop()(Inputs(torch.tensor([0]), histories([3]), positions=torch.tensor([1])), generator())
