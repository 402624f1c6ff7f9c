#!/usr/bin/env bash
# LightGCN started at random, from iALS and from PureSVD, on MovieLens-100K, Last.fm and Gowalla; one seed.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/ablation_warmstart.sh [--workers 2]
# Time: 12 minutes on 2 cores; never run on a GPU. The table has the epochs to 99% of the best validation ndcg.
# Writes experiments/results/warmstart{,_gowalla}.{csv,md,tex}. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph ablate experiments/warmstart.yaml "$@"
recgraph ablate experiments/warmstart_gowalla.yaml "$@"
