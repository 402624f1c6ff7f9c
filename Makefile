.PHONY: help setup quickstart test check test-oldest bench clean

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup:  ## make .venv with the pinned versions
	@bash scripts/environment.sh

quickstart:  ## train and compare three models on MovieLens-100K
	@bash scripts/quickstart.sh

test:  ## run the tests
	@bash scripts/test.sh

check: setup  ## ruff, mypy, import-linter, then the tests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	@bash scripts/test.sh

test-oldest:  ## run the tests in .venv-oldest, on the oldest versions that setup.cfg allows
	@bash scripts/test_oldest.sh

bench:  ## time recgraph and its peers on the same work (nothing else may run)
	@bash benchmarks/run.sh

clean:  ## remove environments and caches, but neither data nor runs
	rm -rf .venv .venv-oldest benchmarks/.venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
