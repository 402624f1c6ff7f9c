#!/usr/bin/env bash
# SASRec with several losses and on a graph, BSARec, CL4SRec and DuoRec on S3-Rec's Beauty.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_beauty.sh [--rows SASRec-softmax]
# Time: from minutes (SASRec) over half an hour (cosines) to hours (DuoRec) a row with one thread; never run in full, nor on a GPU.
# Writes experiments/results/beauty.{csv,md,tex} and a page with charts into runs. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/beauty.yaml "$@"
