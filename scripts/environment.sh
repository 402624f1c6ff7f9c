#!/usr/bin/env bash
# Creates .venv with the versions pinned in constraints.txt, if it does not exist yet. Other scripts source this file;
# afterwards the working directory is the repository, and `python`, `recgraph` and `pytest` are those of .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Packages are installed again when the requirements change.
stamp=".venv/installed-$(cat setup.cfg pyproject.toml constraints.txt | sha256sum | cut -c1-16)"
if [ ! -f "$stamp" ]; then
    python=$(command -v python3.11 || command -v python3 || true)
    if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "recgraph needs Python 3.11 or newer; found: ${python:-none}" >&2
        exit 1
    fi
    if ! .venv/bin/python -m pip --version > /dev/null 2>&1; then  # none, or one that was interrupted
        echo "Making .venv with $("$python" --version) ..."
        "$python" -m venv --clear .venv || { echo "Is the venv module missing? On Debian: apt-get install python3-venv" >&2; exit 1; }
    fi
    echo "Installing the versions pinned in constraints.txt (a few minutes, once) ..."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,dgl,wandb,tune]'
    rm -f .venv/installed-*  # of other requirements, whose versions are no longer there
    touch "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
