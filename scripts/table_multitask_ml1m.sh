#!/usr/bin/env bash
# Multi-task learning on MovieLens-1M (random 80/10/10 by user), five seeds.
#   bash scripts/table_multitask_ml1m.sh [--workers 2]
# Never run in full. Writes experiments/results/multitask_ml1m.{csv,md,tex} and runs/multitask_ml1m/report.html. A killed script
# goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/multitask_ml1m.yaml "$@"
recgraph report experiments/multitask_ml1m.yaml --to runs/multitask_ml1m/report.html
