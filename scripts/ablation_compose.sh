#!/usr/bin/env bash
# Parts put together on MovieLens-100K: item vectors of a graph under attention, heads, contrast on graph and sequence; three seeds.
#   bash scripts/ablation_compose.sh [--track offline]
# Time: one to three minutes a row and seed with one thread, those with DIN half an hour and more; never run in full nor on a GPU.
# Writes experiments/results/ablation_compose.{csv,md,tex}. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/ablation_compose.yaml "$@"
