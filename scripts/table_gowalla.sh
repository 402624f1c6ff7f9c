#!/usr/bin/env bash
# Graph encoders with BPR, softmax losses and contrast, and a blend with BSPM, on Gowalla (LightGCN's split); one seed.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_gowalla.sh [--rows ROW,ROW]
# Time: 20 hours on one thread of a busy machine. Never run on a GPU. Best recall@20: LightGCN-BSL at 0.001 + BSPM .200.
# Writes experiments/results/gowalla.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/gowalla.yaml "$@"
