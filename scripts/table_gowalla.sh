#!/usr/bin/env bash
# Graph encoders with BPR, softmax losses and contrast, and a blend with BSPM, on Gowalla (LightGCN's split), one seed.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_gowalla.sh [--rows ROW,ROW]
# Time: three hours with one thread of a busy machine, without SimGCL, LightGCL and DirectAU, which were not run; never run on a GPU.
# Best recall@20: LightGCN-BSL + BSPM .198.
# Writes experiments/results/gowalla.{csv,md,tex} and a page with charts into runs. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/gowalla.yaml "$@"
