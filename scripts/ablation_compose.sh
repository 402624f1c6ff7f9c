#!/usr/bin/env bash
# Combinations on MovieLens-100K: attention over graph item vectors, heads, contrast on graph and sequence; three seeds.
#   bash scripts/ablation_compose.sh [--track offline]
# Time per row and seed with one thread: one to seven minutes, with DIN half an hour or more.
# Never run in full or on a GPU.
# Writes experiments/results/ablation_compose.{csv,md,tex}. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/ablation_compose.yaml "$@"
