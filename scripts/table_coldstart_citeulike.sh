#!/usr/bin/env bash
# Cold articles on CiteULike-a by their tags: content-kNN, iALS with neighbours' mean, DropoutNet, CLCRec, Heater, ALDI,
# GAR, citation and similarity links, hybrids.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_coldstart_citeulike.sh [--seeds 0]
# Time: about a quarter of an hour per seed on 2 cores with --workers 2; never run on a GPU.
# Writes experiments/results/coldstart_citeulike.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to
# resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/coldstart_citeulike.yaml "$@"
