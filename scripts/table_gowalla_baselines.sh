#!/usr/bin/env bash
# Neighbours, factorisations, linear models and graph filters on Gowalla (LightGCN's split), with published settings.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_gowalla_baselines.sh [--rows GF-CF,EASE]
# Time: 17 minutes of training on 2 cores, 13 of them EASE, which needs 14 GiB; never run on a GPU. Best recall@20: BSPM-EM .192.
# Writes experiments/results/gowalla_baselines.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to
# resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/gowalla_baselines.yaml "$@"
