#!/usr/bin/env bash
# New users on MovieLens-1M by gender, age and occupation; three seeds.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_coldstart_users_ml1m.sh [--seeds 0]
# Time: never run in full or on a GPU.
# Writes experiments/results/coldstart_users_ml1m.{csv,md,tex}. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/coldstart_users_ml1m.yaml "$@"
