"""The shape of the code base: one direction, light imports, one test file a module, small files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "recgraph").rglob("*.py"))


@pytest.mark.parametrize(
    "statement", ["import recgraph", "import recgraph.encoders", "from recgraph.encoders import LightGCN"]
)
def test_encoders_load_no_framework(statement: str) -> None:
    heavy = ("wandb", "dgl", "polars", "pydantic", "torch_geometric", "sklearn", "rich", "cyclopts")
    code = f"{statement}\nimport sys\nprint(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_imports_point_one_way() -> None:
    pytest.importorskip("importlinter")
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_holds_one_concept(path: Path) -> None:
    limit = 150 if path.parent.name == "encoders" else 330
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


def test_every_module_has_tests() -> None:
    tested = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    for path in SOURCES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.name not in ("__init__.py", "__main__.py", "base.py"):
            assert f"from {module} import" in tested or f"{module.rpartition('.')[2]}" in tested, module


def test_every_public_name_can_be_imported() -> None:
    import recgraph

    for name in recgraph.__all__:
        assert getattr(recgraph, name) is not None
