#!/usr/bin/env bash
# LightGCN on MovieLens-100K with layers, width, L2 or negatives changed, one at a time, three seeds.
#   bash scripts/ablation_ml100k.sh [--workers 2] [--track offline]
# Time: 15 minutes on 2 cores; never run on a GPU. Test ndcg@10 of the base: .319.
# Writes experiments/results/ablation_ml100k.{csv,md,tex} and a page with charts into runs. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph ablate experiments/ablation_ml100k.yaml "$@"
