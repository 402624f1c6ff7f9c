"""Files are whole or absent; generators are apart."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from recgraph import random
from recgraph.errors import suggest
from recgraph.files import digest, locked, replacing, write_json


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with replacing(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(OSError, match="disk full"), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_json_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not (tmp_path / "x.json").exists()
    write_json(tmp_path / "x.json", {"title": "Amélie"})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"title": "Amélie"}


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": (2, 3)}) == digest({"b": [2, 3], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_streams_are_reproducible_and_apart() -> None:
    draws = {
        (seed, name): random.numpy_generator(seed, name).integers(2**62)
        for seed in (0, 1)
        for name in ("split", "order")
    }
    assert len(set(draws.values())) == 4
    assert random.numpy_generator(0, "split").integers(2**62) == draws[0, "split"]
    first, second = (torch.rand(3, generator=random.torch_generator(0, "order")) for _ in range(2))
    assert torch.equal(first, second)


def test_isolation_puts_global_state_back() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    with random.isolated(0, "modules"):
        inside = torch.rand(1)
    assert torch.equal(torch.rand(1), expected)
    with random.isolated(0, "modules"):
        assert torch.equal(torch.rand(1), inside)


def test_numpy_global_state_is_untouched_by_importing_everything() -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - it is the global state that is looked at
    import recgraph.cli  # noqa: F401

    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


@pytest.mark.parametrize(
    ("word", "expected"), [("lightgnc", "Did you mean 'lightgcn'?"), ("zzz", "Known: bpr, lightgcn.")]
)
def test_suggestions(word: str, expected: str) -> None:
    assert suggest(word, ["lightgcn", "bpr"]) == expected
    assert suggest(word, []) == "None are known."
    assert suggest(True, ["lightgcn"]) == "Known: lightgcn."  # type: ignore[arg-type]  # a key `on` of YAML


def test_a_file_system_without_locks_is_not_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(OSError, match="No locks available"), locked(tmp_path):
        pass
