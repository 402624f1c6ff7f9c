#!/usr/bin/env bash
# Classical models, BPR-MF and NCF on MovieLens-1M under NCF's protocol (one test item among 99 stored negatives).
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_ncf_ml1m.sh [--workers 2]
# Time: 1 minute without SLIM and what is trained by epochs. An epoch with one core: GMF 1 s, MLP 25 s, NeuMF 10 s, on LightGCN
# 29 s, with contrast 79 s; the first three need 26, 16 and 2 of them, and as many for the last fit; never run on a GPU. Test hit@10:sampled-99: popularity .453,
# EASE .719, iALS .732.
# Writes experiments/results/ncf_ml1m.{csv,md,tex} and a page with charts into runs. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/ncf_ml1m.yaml "$@"
