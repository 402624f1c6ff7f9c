#!/usr/bin/env bash
# Runs the tests with the oldest versions that setup.cfg allows, in .venv-oldest. Arguments go to pytest.
#   bash scripts/test_oldest.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! .venv-oldest/bin/python -m pip --version > /dev/null 2>&1; then
    "$(command -v python3.11 || command -v python3)" -m venv --clear .venv-oldest
fi
.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-oldest.txt --editable '.[dev,dgl,wandb,tune]'
.venv-oldest/bin/python -m pytest "$@"
