#!/usr/bin/env bash
# The best ndcg@20 on Gowalla (LightGCN's split) that we can train in 10, 30 and 60 minutes on two CPU cores, one seed.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_gowalla_budgets.sh
# Time: what it says, and two minutes of ranking each. ndcg@20: .165, .166, .166.
# Writes experiments/results/gowalla_{10,30,60}min.{csv,md,tex} and pages with charts into runs. A killed script goes on.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
for minutes in 10 30 60; do recgraph table "experiments/gowalla_${minutes}min.yaml" "$@"; done
