#!/usr/bin/env bash
# SASRec with two losses, BSARec, CL4SRec and DuoRec on S3-Rec's Beauty.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_beauty.sh [--rows SASRec-softmax]
# Time: from minutes (SASRec) to hours (DuoRec) a row on 2 cores, never run in full; never run on a GPU.
# Writes experiments/results/beauty.{csv,md,tex} and a page with charts into runs. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/beauty.yaml "$@"
