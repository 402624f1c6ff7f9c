#!/usr/bin/env bash
# SASRec with several losses and on a graph, BSARec, CL4SRec and DuoRec on S3-Rec's Beauty.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_beauty.sh [--rows SASRec-softmax]
# Time per row with one thread: minutes (SASRec), half an hour (cosines), hours (DuoRec); never run in full or on a GPU.
# Writes experiments/results/beauty.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/beauty.yaml "$@"
