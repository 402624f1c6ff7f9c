#!/usr/bin/env bash
# Cold films on MovieLens-1M by plot, title, genres and people; needs movies_extrainfos.dat (datasets/ml-1m-plots.yaml).
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_coldstart_ml1m.sh [--seeds 0]
# Time: about 40 minutes per seed with one thread of a busy machine; never run on a GPU.
# Writes experiments/results/coldstart_ml1m.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/coldstart_ml1m.yaml "$@"
