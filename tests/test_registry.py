"""Signatures are the schema; every mistake is named with its path and the nearest valid name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from recgraph import registry
from recgraph.encoders import Fields, LightGCN
from recgraph.errors import ConfigError
from recgraph.expected import mismatch
from recgraph.heads import MLP, Towers
from recgraph.objectives import Softmax, ViewContrast
from recgraph.registry import Registry
from recgraph.types import Content, PositiveFloat, PositiveInt
from recgraph.views import EdgeDrop, Noise

KINDS = ("encoders", "heads", "objectives", "views", "samplers", "splits", "baselines")


def test_defaults_are_filled_in_and_types_converted() -> None:
    # PyYAML reads 1e-3 as text; the schema makes a number of it
    checked = registry.encoders.check({"name": "lightgcn", "dim": "32", "std": "1e-3"}, "encoder")
    assert checked == {
        "name": "lightgcn",
        "dim": 32,
        "num_layers": 3,
        "first_layer": 0,
        "layer_weights": "mean",
        "alpha": 0.5,
        "beta": 0.5,
        "unit_messages": False,
        "std": 0.001,
        "backend": "torch",
    }
    assert registry.heads.check("dot", "heads.rank") == {"name": "dot"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lightgnc", r"encoder: no encoder 'lightgnc'\. Did you mean 'lightgcn'\?"),
        ({"name": "lightgcn", "num_layer": 2}, r"encoder\.num_layer: .*Did you mean 'num_layers'\?"),
        (
            {"name": "lightgcn", "num_users": 3},
            r"takes no 'num_users'\. It takes it by position, and options are keyword-only",
        ),
        ({"name": "lightgcn", "dim": True}, r"encoder\.dim: expected a number, got true"),
        ({"name": "lightgcn", "dim": "many"}, r"encoder\.dim: .*integer.*got 'many'"),
        ({"name": "lightgcn", "dim": 2.5}, r"encoder\.dim: .*got 2\.5"),
        ({"name": "lightgcn", "backend": "jax"}, r"encoder\.backend: .*'torch', 'pyg' or 'dgl'.*got 'jax'"),
        ({"dim": 3}, r"encoder: expected the name of an encoder"),
        (3, r"encoder: expected the name"),
        ("no.such.module:Mine", r"encoder: cannot load encoder 'no\.such\.module:Mine'"),
        ("recgraph.types:Mine", r"encoder: cannot load .*no attribute 'Mine'"),
        (
            "recgraph.types.Mine",
            r"no encoder 'recgraph\.types\.Mine'; one of another package is written package\.module:",
        ),
        ("LIGHTGCN", r"Did you mean 'lightgcn'\?"),
        (":X", r"encoder: cannot load encoder ':X': Empty module name"),
        ("torch.nn:Linear", r"'torch\.nn:Linear' is not a recgraph\.encoders\.base:Encoder"),
        ("builtins:exec", r"'builtins:exec' is not a recgraph\.encoders\.base:Encoder"),
        ({"name": "lightgcn", "dim": 0}, r"encoder\.dim: .*greater than 0, got 0"),
        ({"name": "lightgcn", "num_layers": -1}, r"encoder\.num_layers: .*greater than or equal to 0, got -1"),
        (
            {"name": "lightgcn", "layer_weights": ["a", 1]},
            r"encoder\.layer_weights: expected one of 'mean', 'learned' or a number or a list of values, each a number, got \[",
        ),
        ({"name": "lightgcn", "layer_weights": "lerned"}, r"encoder\.layer_weights: expected one of .*, got 'lerned'"),
        ({"name": "lightgcn", "std": float("inf")}, r"encoder\.std: .*finite number, got inf"),
    ],
)
def test_mistakes_are_explained(spec: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        registry.encoders.check(spec, "encoder")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LightGCN(3, 4, dim=0), "LightGCN: dim is 0; expected an integer above 0"),
        (lambda: LightGCN(3, 4, num_layers=2.5), r"num_layers is 2\.5; expected an integer of at least 0"),
        (lambda: LightGCN(3, 4, dim=True), "dim is True; expected an integer above 0"),
        (lambda: EdgeDrop(rate=1.0), r"EdgeDrop: rate is 1\.0; expected a number of at least 0 and below 1"),
        (lambda: LightGCN(3, 4, alpha=float("inf")), "LightGCN: alpha is inf; expected a number"),
        (lambda: LightGCN(3, 4, layer_weights=[0.5, None]), r"layer_weights is \[0\.5, None\]; expected one of 'mean'"),
        (lambda: Noise(eps=float("nan")), "Noise: eps is nan; expected a number of at least 0"),
        (lambda: ViewContrast(similarity="cos"), "similarity is 'cos'; expected one of 'cosine', 'dot'"),
        (lambda: ViewContrast(bound=0), "bound is 0; expected a number above 0 or None"),
        (lambda: Softmax(temperature="0.1"), "temperature is '0.1'; expected a number above 0"),
        (
            lambda: MLP(8, hidden=()),
            r"hidden is \(\); expected a list of values, each an integer above 0 with a length",
        ),
        (lambda: MLP(8, hidden=(0,)), r"hidden is \(0,\); expected a list of values, each an integer above 0"),
        (lambda: MLP(8, hidden=8), "hidden is 8; expected a list of values, each an integer above 0"),
        (lambda: Towers(8, hidden=(-1,)), r"hidden is \(-1,\); expected a list of values, each an integer above 0"),
        (lambda: Fields(3, 4, Content({}), context=("hours",)), "expected a list of values, each one of 'hour', 'week"),
        (lambda: Fields(3, 4, Content({}), crosses=("user", "item")), "a list of values, each a list of values"),
    ],
)
def test_classes_refuse_in_python_what_files_may_not_say(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("kind", KINDS)
def test_every_default_fits_the_type_of_its_option(kind: str) -> None:
    for component in getattr(registry, kind).components().values():
        for name, (of, default) in registry.options(component).items():
            assert default is ... or not mismatch(default, of), (component, name)


@pytest.mark.parametrize("number", [3, np.int64(3), torch.tensor(3)])
def test_numbers_of_other_libraries_fit(number: object) -> None:
    assert not mismatch(number, PositiveInt | None)
    assert not mismatch(number, PositiveFloat)


def test_a_component_of_another_package_needs_no_registration() -> None:
    built = registry.encoders.build({"name": "recgraph.encoders.embedding:Embedding", "dim": 3}, 5, 7)
    assert built.users.weight.shape == (5, 3)


def test_two_components_cannot_share_a_name() -> None:
    mine = Registry("thing", "recgraph.heads", None)
    mine.register("one")(int)
    mine.register("one")(int)  # the same component again, as when a module is reloaded, is fine
    with pytest.raises(ConfigError, match="thing 'one' is already registered"):
        mine.register("one")(float)


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_says_in_a_line_what_it_is(kind: str) -> None:
    for name, component in getattr(registry, kind).components().items():
        line = registry.summary(component)
        assert line.endswith((".", "?")), f"{kind} {name}: the docstring's first line is {line!r}"
        assert all(hint is not None for hint, _ in registry.options(component).values())
