#!/usr/bin/env bash
# Neighbours, factorisations, linear models and graph filters on Last.fm (LightGCN-PyTorch's split).
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_lastfm_baselines.sh
# Time: 2 minutes on 2 cores; never run on a GPU. GF-CF reaches recall@20 .272.
# Writes experiments/results/lastfm_baselines.{csv,md,tex} and a page with charts into runs. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/lastfm_baselines.yaml "$@"
