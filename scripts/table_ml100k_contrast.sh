#!/usr/bin/env bash
# Graph contrast and other losses over LightGCN on MovieLens-100K, five seeds.
#   bash scripts/table_ml100k_contrast.sh [--rows ROW,ROW]
# Time: an hour and a half with one thread of a busy machine, a third of it BSL; never run on a GPU.
# Writes experiments/results/ml100k_contrast.{csv,md,tex} and a page with charts into runs. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/ml100k_contrast.yaml "$@"
