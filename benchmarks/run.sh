#!/usr/bin/env bash
# Times recgraph and its peers on the same work and writes results.json and the tables of README.md, in this folder.
#   bash benchmarks/run.sh                      everything
#   bash benchmarks/run.sh lightgcn gowalla     parts of it: lightgcn bpr neumf sasrec rank ials item_knn contrast content matmul floor sampler scaling data; datasets
#   bash benchmarks/run.sh --quick              only to see that it runs: few repeats, nothing written
#   bash benchmarks/run.sh --help               all options
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/environment.sh"

stamp="benchmarks/.venv/installed-$(sha256sum < benchmarks/peers.txt | cut -c1-16)"
if [ ! -f "$stamp" ]; then
    if ! benchmarks/.venv/bin/python -m pip --version > /dev/null 2>&1; then
        echo "Making benchmarks/.venv for the peers ..."
        python3.11 -m venv --clear benchmarks/.venv
    fi
    echo "Installing the versions pinned in benchmarks/peers.txt (a few minutes, once) ..."
    benchmarks/.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/peers.txt
    touch "$stamp"
fi
exec python benchmarks/bench.py "$@"
