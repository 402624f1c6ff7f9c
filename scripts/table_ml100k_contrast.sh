#!/usr/bin/env bash
# LightGCN with graph contrast and other losses, NGCF, GAT and UltraGCN on MovieLens-100K; five seeds.
#   bash scripts/table_ml100k_contrast.sh [--rows ROW,ROW]
# Time: two hours with one thread of a busy machine, a quarter of it BSL; never run on a GPU.
# Writes experiments/results/ml100k_contrast.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/ml100k_contrast.yaml "$@"
