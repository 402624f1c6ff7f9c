#!/usr/bin/env bash
# Cold articles on CiteULike-a by their tags: content-kNN, iALS with neighbours' mean, DropoutNet, CLCRec, Heater, ALDI,
# GAR, links of citations and likeness, hybrids.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_coldstart_citeulike.sh [--seeds 0]
# Time: about a quarter of an hour a seed on 2 cores with --workers 2; never run on a GPU.
# Writes experiments/results/coldstart_citeulike.{csv,md,tex} and a page with charts into runs. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/coldstart_citeulike.yaml "$@"
