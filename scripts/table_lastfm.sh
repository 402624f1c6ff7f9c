#!/usr/bin/env bash
# Popularity, BPR-MF, LightGCN, graph contrast and softmax losses on Last.fm (LightGCN-PyTorch's files and split);
# five seeds.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_lastfm.sh [--workers 2]
# Time: about 35 minutes per seed with one thread of a busy machine, of which LightGCN takes one; never run on a GPU.
# Test recall@20: LightGCN .274, SGL-ED .277, XSimGCL .276.
# Writes experiments/results/lastfm.{csv,md,tex} and an HTML page with charts in runs/. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/lastfm.yaml "$@"
