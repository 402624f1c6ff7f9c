#!/usr/bin/env bash
# Multi-task learning on MovieLens-100K and MovieLens-1M (random 80/10/10 by user); five seeds.
#   bash scripts/table_multitask.sh [ml100k|ml1m] [--workers 2]
# Time of a run with one thread of a busy machine: four minutes on MovieLens-100K (75 runs; ten with PCGrad), 8 to 20 on
# MovieLens-1M without contrast. Never run on a GPU.
# Writes experiments/results/multitask_{ml100k,ml1m}.{csv,md,tex} and HTML pages with charts in runs/. If killed, rerun
# to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
case "${1:-}" in
  ml100k | ml1m) tables=("$1") && shift ;;
  *) tables=(ml100k ml1m) ;;
esac
for table in "${tables[@]}"; do recgraph table "experiments/multitask_$table.yaml" "$@"; done
