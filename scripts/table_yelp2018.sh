#!/usr/bin/env bash
# Graph encoders, contrast and classical models with the papers' settings on Yelp2018 (LightGCN's split); three seeds.
#   bash scripts/table_yelp2018.sh [--rows ROW,ROW]
# Time: hours per row with a GPU, days without; never run. The files are fetched from the web or RECGRAPH_MIRROR.
# Writes experiments/results/yelp2018.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/yelp2018.yaml "$@"
