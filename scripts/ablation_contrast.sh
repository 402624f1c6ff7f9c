#!/usr/bin/env bash
# The parts of graph contrast on MovieLens-100K, one at a time: view, strength, temperature, weight, layers, batch; three seeds.
#   bash scripts/ablation_contrast.sh [--track offline]
# Time: a third of an hour a seed with one thread of a busy machine; one seed was run; never run on a GPU.
# Writes experiments/results/ablation_contrast.{csv,md,tex} and a page with charts into runs. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph ablate experiments/ablation_contrast.yaml "$@"
