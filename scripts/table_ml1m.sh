#!/usr/bin/env bash
# Graph contrast on MovieLens-1M in RecBole-GNN's setting; three seeds.
#   bash scripts/table_ml1m.sh [--rows ROW,ROW]
# Time: two hours per seed with one thread of a busy machine, 20 to 30 minutes of it each for NCL, LightGCN and SimGCL;
# never run on a GPU.
# Writes experiments/results/ml1m.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/ml1m.yaml "$@"
