#!/usr/bin/env bash
# The tests. Makes the environment if it is missing; arguments go to pytest.
#   bash scripts/test.sh
#   bash scripts/test.sh -n 0 -k cold                          some of them, in one process, which starts sooner
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/test.sh     also the tests on real data
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# A process a core, of one thread each: hardly a test has work for two. Each may take 2 GB, so there are four at most.
export OMP_NUM_THREADS=1
python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal "$@"
