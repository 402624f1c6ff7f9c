#!/usr/bin/env bash
# Popularity, BPR-MF and LightGCN on MovieLens-100K (random 80/10/10 by user); five seeds.
#   bash scripts/table_ml100k.sh [--workers 2]
# Time: 4 minutes on 2 cores; never run on a GPU. Test ndcg@10: LightGCN .320, BPR-MF .300, popularity .147.
# Writes experiments/results/ml100k.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/ml100k.yaml "$@"
