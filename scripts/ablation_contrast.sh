#!/usr/bin/env bash
# Graph contrast on MovieLens-100K, one part at a time: view, strength, temperature, weight, layers, batch; three seeds.
#   bash scripts/ablation_contrast.sh [--track offline]
# Time: a third of an hour per seed with one thread of a busy machine; one seed was run; never run on a GPU.
# Writes experiments/results/ablation_contrast.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to
# resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph ablate experiments/ablation_contrast.yaml "$@"
