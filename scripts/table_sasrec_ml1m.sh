#!/usr/bin/env bash
# SASRec with four losses, BERT4Rec and DIN on SASRec's MovieLens-1M file.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_sasrec_ml1m.sh [--rows SASRec-3000]
# Time: SASRec-CE takes 42 minutes on one busy core of a 2019 Xeon. The file is meant for a GPU
# (--device cuda), on which it was never run; nor was it run in full.
# Writes experiments/results/sasrec_ml1m.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/sasrec_ml1m.yaml "$@"
