#!/usr/bin/env bash
# Graph encoders, contrast and filters with the papers' settings on Amazon-Book (LightGCN's split), three seeds.
#   bash scripts/table_amazon_book.sh [--rows ROW,ROW]
# Time: hours a row with a GPU, days without; never run. The files are fetched from the web, or from RECGRAPH_MIRROR.
# Writes experiments/results/amazon_book.{csv,md,tex} and a page with charts into runs. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/amazon_book.yaml "$@"
