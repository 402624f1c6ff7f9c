#!/usr/bin/env bash
# Graph encoders, contrast and classical models with the papers' settings on Yelp2018 (LightGCN's split), three seeds.
#   bash scripts/table_yelp2018.sh [--rows ROW,ROW]
# Time: hours a row with a GPU, days without; never run. The files are fetched from the web, or from RECGRAPH_MIRROR.
# Writes experiments/results/yelp2018.{csv,md,tex} and a page with charts into runs. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/yelp2018.yaml "$@"
