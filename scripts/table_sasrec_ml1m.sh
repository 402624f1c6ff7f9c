#!/usr/bin/env bash
# SASRec with four losses, BERT4Rec and DIN on SASRec's MovieLens-1M file.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_sasrec_ml1m.sh [--rows SASRec-3000]
# Time: SASRec-CE 42 minutes on one busy core of a Xeon of 2019; the table never in full; never run on a GPU.
# Writes experiments/results/sasrec_ml1m.{csv,md,tex} and a page with charts into runs. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/sasrec_ml1m.yaml "$@"
