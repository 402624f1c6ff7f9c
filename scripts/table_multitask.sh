#!/usr/bin/env bash
# Multi-task learning on MovieLens-100K and MovieLens-1M (random 80/10/10 by user), five seeds.
#   bash scripts/table_multitask.sh [ml100k|ml1m] [--workers 2]
# Time: one to three minutes a run of 75 on MovieLens-100K with one thread of a busy machine; not
# known on MovieLens-1M. Never run on a GPU.
# Writes experiments/results/multitask_{ml100k,ml1m}.{csv,md,tex} and pages with charts into runs. A killed script goes on
# where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
case "${1:-}" in
  ml100k | ml1m) tables=("$1") && shift ;;
  *) tables=(ml100k ml1m) ;;
esac
for table in "${tables[@]}"; do recgraph table "experiments/multitask_$table.yaml" "$@"; done
