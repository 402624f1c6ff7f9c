#!/usr/bin/env bash
# The tests. Makes the environment if it is missing; arguments go to pytest.
#   bash scripts/test.sh
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/test.sh     also the tests on real data
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
python -m pytest "$@"
