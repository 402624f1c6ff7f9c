#!/usr/bin/env bash
# LightGCN on MovieLens-100K, changing layers, width, L2 or negatives one at a time; three seeds.
#   bash scripts/ablation_ml100k.sh [--workers 2] [--track offline]
# Time: 15 minutes on 2 cores; never run on a GPU. Test ndcg@10 of the base: .319.
# Writes experiments/results/ablation_ml100k.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph ablate experiments/ablation_ml100k.yaml "$@"
