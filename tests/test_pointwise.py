"""What is particular to CCL and gBCE; that they equal loops is in test_softmax.py, for all ranking objectives."""

from __future__ import annotations

import pytest
import torch

from recgraph.objectives import CCL, GBCE


def test_ccl_has_no_gradient_below_the_margin() -> None:
    positives = torch.tensor([[0.4]], requires_grad=True)
    negatives = torch.tensor([[0.1, 0.5, 0.8]], requires_grad=True)
    value = CCL(margin=0.3, negative_weight=6.0).row_losses(positives, negatives, None, 50)
    assert value.item() == pytest.approx(0.6 + 6 / 3 * (0.2 + 0.5))
    value.backward()
    assert positives.grad.tolist() == [[-1.0]]
    assert negatives.grad.tolist() == [[0.0, 2.0, 2.0]]


def test_ccl_of_a_positive_above_1_is_0() -> None:
    assert CCL().row_losses(torch.tensor([[3.0]]), torch.tensor([[0.0]]), None, 10) == 0


@pytest.mark.parametrize(("calibration", "expected"), [(0.0, 0.9), (1.0, 0.5)])
def test_gbce_at_1_undoes_what_sampling_does_to_probabilities(calibration: float, expected: float) -> None:
    """An item is liked with probability ½; as a negative it is met at the sampling rate α = 1/9 only.

    The best score then says ½ / (½ + ½ α) = .9 under cross-entropy, and ½ when calibrated in full.
    """
    score = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([score], lr=2.0)
    nothing = torch.full((1, 1), -1e9, dtype=torch.float64)  # a score that costs nothing
    loss = lambda positive, negative: GBCE(calibration=calibration).row_losses(positive, negative, None, 10)  # noqa: E731
    for _ in range(500):
        optimizer.zero_grad()
        liked, disliked = loss(score, nothing), loss(-nothing, score)
        (liked / 2 + disliked / 2 / 9).sum().backward()
        optimizer.step()
    assert score.sigmoid().item() == pytest.approx(expected, abs=1e-6)


def test_gbce_with_more_negatives_than_items_is_cross_entropy() -> None:
    positives, negatives = torch.randn(3, 1), torch.randn(3, 20)
    plain = GBCE(calibration=0.0).row_losses(positives, negatives, None, 5)
    torch.testing.assert_close(GBCE(calibration=1.0).row_losses(positives, negatives, None, 5), plain)
