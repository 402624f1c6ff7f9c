#!/usr/bin/env bash
# Our best ndcg@20 on Gowalla (LightGCN's split) after 10, 30 and 60 minutes of training on two CPU cores; one seed.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_gowalla_budgets.sh
# Time: these minutes, plus two minutes of ranking each. ndcg@20: .165, .166, .167.
# Writes experiments/results/gowalla_{10,30,60}min.{csv,md,tex} and HTML pages with charts in runs/. If killed, rerun to
# resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
for minutes in 10 30 60; do recgraph table "experiments/gowalla_${minutes}min.yaml" "$@"; done
