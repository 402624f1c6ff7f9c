#!/usr/bin/env bash
# Graph contrast on MovieLens-1M in RecBole-GNN's setting, three seeds.
#   bash scripts/table_ml1m.sh [--rows ROW,ROW]
# Time: an hour and a half a seed on one thread of a busy machine, most of it SimGCL and SGL; never run on a GPU.
# Writes experiments/results/ml1m.{csv,md,tex} and a page with charts into runs. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/ml1m.yaml "$@"
