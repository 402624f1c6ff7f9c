#!/usr/bin/env bash
# The parts of the content hybrid on cold films of MovieLens-1M, one at a time: contrast, warm items shown as cold,
# modalities, fusion, links; three seeds, of which one was run. Needs movies_extrainfos.dat (datasets/ml-1m-plots.yaml).
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/ablation_coldstart.sh [--seeds 0] [--track offline]
# Time: about half an hour per seed on 2 cores with --workers 2; never run on a GPU.
# Writes experiments/results/ablation_coldstart.{csv,md,tex}. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph ablate experiments/ablation_coldstart.yaml "$@"
