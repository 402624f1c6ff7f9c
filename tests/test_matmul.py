"""Inner products and layers are those of float64, forwards and twice backwards, whoever computes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from recgraph.numerics import matmul
from recgraph.numerics.matmul import Linear, inner_products, unit

SHAPES = {
    "wide": ((7, 5), (33, 5)),
    "positions": ((3, 4, 5), (6, 5)),
    "one": ((1, 1), (1, 1)),
    "a vector": ((5,), (6, 5)),
    "no rows": ((0, 5), (6, 5)),
    "no columns": ((7, 5), (0, 5)),
}


@pytest.fixture(autouse=True)
def nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor of AMD, whatever this one is."""
    monkeypatch.setattr(matmul, "MKL_IS_SLOW", True)
    monkeypatch.setattr(matmul, "SMALL", 0)


def tensors(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.rand(*shape, generator=generator) / 4 for shape in shapes)  # so that no sum is large
    return left.requires_grad_(), right.requires_grad_()


def check(left: Tensor, right: Tensor) -> None:
    """Against float64, with the gradient of a gradient, too."""
    exact = left.detach().double().requires_grad_(), right.detach().double().requires_grad_()
    found, wanted = inner_products(left, right), exact[0] @ exact[1].T
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted.float())
    slopes = torch.autograd.grad(found.sin().sum(), (left, right), create_graph=True)
    exact_slopes = torch.autograd.grad(wanted.sin().sum(), exact, create_graph=True)
    torch.testing.assert_close(slopes, tuple(slope.float() for slope in exact_slopes))
    torch.testing.assert_close(
        torch.autograd.grad(sum(slope.square().sum() for slope in slopes), (left, right)),
        tuple(
            found.float() for found in torch.autograd.grad(sum(slope.square().sum() for slope in exact_slopes), exact)
        ),
    )


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("library", [True, False], ids=["oneDNN", "torch"])
def test_equals_float64(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], library: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not library:
        monkeypatch.setattr(matmul, "_linear", None)
    check(*tensors(shapes))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [(7,), (3, 4), ()], ids=str)
def test_a_layer_is_that_of_torch(rows: tuple[int, ...], bias: bool) -> None:
    """Also where what comes out is overwritten, as heads do."""
    layer = Linear(5, 6, bias=bias)
    exact = torch.nn.Linear(5, 6, bias=bias, dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    values = torch.rand(*rows, 5, requires_grad=True)
    exact_values = values.detach().double().requires_grad_()
    found, wanted = layer(values).relu_(), exact(exact_values).relu()
    torch.testing.assert_close(found, wanted.float())
    slopes = torch.autograd.grad(found.square().sum(), (values, *layer.parameters()))
    exact_slopes = torch.autograd.grad(wanted.square().sum(), (exact_values, *exact.parameters()))
    torch.testing.assert_close(slopes, tuple(slope.float() for slope in exact_slopes))


def test_what_is_small_stays_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "SMALL", 7 * 5 * 33 + 1)
    monkeypatch.setattr(matmul, "_linear", None if matmul._linear is None else pytest.fail)
    inner_products(*tensors(SHAPES["wide"]))


def test_rows_are_in_one_piece_for_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forwards and backwards, whatever came in: else it takes 2,000 times as long."""
    if matmul._linear is None:
        pytest.skip("this build of torch has no oneDNN")
    given: list[Tensor] = []

    def spy(left: Tensor, right: Tensor, *rest: object, linear: Callable[..., Tensor] = matmul._linear) -> Tensor:
        given.extend((left, right.T if right.T.is_contiguous() else right))
        return linear(left, right, *rest)

    monkeypatch.setattr(matmul, "_linear", spy)
    wide, narrow = tensors(((8, 12), (9, 12)))
    product = inner_products(wide[:, 3:], narrow[:, 3:])
    torch.cat([product, product], -1)[:, 2:-2].square().sum().backward()
    assert len(given) == 6
    assert all(tensor.is_contiguous() for tensor in given)


def test_any_order_in_memory() -> None:
    left, right = tensors(((8, 6), (9, 6)))
    check(left[::2, 1:], right[1::3, 1:])
    check(left.T[:, :6].contiguous().T[:6].T, right.T.contiguous().T[:, :6])
    check(left[:1].expand(4, 6), right[:1].expand(3, 6))


def test_only_what_is_asked_for_has_a_gradient() -> None:
    left, right = tensors(SHAPES["wide"])
    inner_products(left, right.detach()).sum().backward()
    torch.testing.assert_close(left.grad, right.detach().sum(0).expand(7, 5))
    assert right.grad is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_stay_what_they_are(dtype: torch.dtype) -> None:
    left, right = (tensor.to(dtype) for tensor in tensors(SHAPES["wide"]))
    torch.testing.assert_close(inner_products(left, right), left @ right.T)


def test_autocast_has_its_way() -> None:
    left, right = tensors(SHAPES["wide"])
    with torch.autocast("cpu", torch.bfloat16):
        found = inner_products(left, right)
    assert found.dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(7, 5), (3, 4, 5), (0, 5)], ids=str)
def test_unit_is_that_of_torch(shape: tuple[int, ...]) -> None:
    """With the gradient of its gradient."""
    vectors = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    vectors.requires_grad_()
    target = torch.randn(vectors.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    slopes = []
    for function in (unit, lambda values: torch.nn.functional.normalize(values, dim=-1)):
        found = function(vectors)
        (slope,) = torch.autograd.grad((found * target).sin().sum(), vectors, create_graph=True)
        (again,) = torch.autograd.grad(slope.square().sum(), vectors)
        slopes.append((found, slope, again))
    torch.testing.assert_close(*slopes)


def test_zeros_have_no_direction_to_learn() -> None:
    """Nor does their gradient have one, and rows beside them keep theirs."""
    vectors = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1e-13, 0.0]], requires_grad=True)
    found = unit(vectors)
    (slope,) = torch.autograd.grad(found, vectors, torch.tensor([[1.0, 2.0]]).expand(3, 2), create_graph=True)
    (again,) = torch.autograd.grad(slope.square().sum(), vectors)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0], [0.6, 0.8], [0.0, 0.0]]))
    # (a - u ⟨a, u⟩) / ‖v‖ with a = (1, 2), u = (.6, .8), ⟨a, u⟩ = 2.2, ‖v‖ = 5
    torch.testing.assert_close(slope, torch.tensor([[0.0, 0.0], [-0.064, 0.048], [0.0, 0.0]]))
    assert not again[[0, 2]].any()
    assert again[1].isfinite().all()
    assert again[1].any()
