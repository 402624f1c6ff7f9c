#!/usr/bin/env bash
# Neighbours, factorisations, linear models and graph filters on MovieLens-100K (random 80/10/10 by user), each tuned
# with 30 trials.
#   bash scripts/table_ml100k_baselines.sh
# Time: 2 minutes on 2 cores; never run on a GPU.
# Writes experiments/results/ml100k_baselines.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/ml100k_baselines.yaml "$@"
