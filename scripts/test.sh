#!/usr/bin/env bash
# Runs the tests, creating the environment if it is missing. Arguments go to pytest.
#   bash scripts/test.sh
#   bash scripts/test.sh -n 0 -k cold                          some of them, in one process, which starts faster
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/test.sh     also the tests on real data
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# One single-threaded process per core: hardly any test has work for two threads. Each may take 2 GB, so at most four.
export OMP_NUM_THREADS=1
python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal "$@"
