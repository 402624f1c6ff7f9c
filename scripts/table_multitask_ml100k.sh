#!/usr/bin/env bash
# Multi-task learning on MovieLens-100K (random 80/10/10 by user), five seeds.
#   bash scripts/table_multitask_ml100k.sh [--workers 2]
# Never run in full. Writes experiments/results/multitask_ml100k.{csv,md,tex} and runs/multitask_ml100k/report.html. A killed script
# goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/multitask_ml100k.yaml "$@"
recgraph report experiments/multitask_ml100k.yaml --to runs/multitask_ml100k/report.html
