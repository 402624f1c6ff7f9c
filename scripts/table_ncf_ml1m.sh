#!/usr/bin/env bash
# Classical models, BPR-MF and NCF on MovieLens-1M under NCF's protocol (one test item among 99 stored negatives).
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_ncf_ml1m.sh [--workers 2]
# Time: 1 minute without SLIM and the rows trained in epochs. One epoch on one core of a busy machine: GMF 10 s, MLP 40 s,
# NeuMF 55 s, with contrast 110 s; they need 58, 16, 8 and 8 epochs, and then 38, 12, 4 and 4 for the last fit.
# Never run on a GPU. Test hit@10:sampled-99: popularity .453, EASE .719, iALS .732.
# Writes experiments/results/ncf_ml1m.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/ncf_ml1m.yaml "$@"
