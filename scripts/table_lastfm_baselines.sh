#!/usr/bin/env bash
# Neighbours, factorisations, linear models and graph filters on Last.fm (LightGCN-PyTorch's split).
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_lastfm_baselines.sh
# Time: 2 minutes on 2 cores; never run on a GPU. Best recall@20: GF-CF .277.
# Writes experiments/results/lastfm_baselines.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/lastfm_baselines.yaml "$@"
