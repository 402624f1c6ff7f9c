#!/usr/bin/env bash
# Graph encoders, contrast and filters with the papers' settings on Amazon-Book (LightGCN's split); three seeds.
#   bash scripts/table_amazon_book.sh [--rows ROW,ROW]
# Time: hours per row with a GPU, days without; never run. The files are fetched from the web or RECGRAPH_MIRROR.
# Writes experiments/results/amazon_book.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/amazon_book.yaml "$@"
