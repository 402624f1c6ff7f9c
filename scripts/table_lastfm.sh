#!/usr/bin/env bash
# Popularity, BPR-MF and LightGCN on Last.fm, in the files and the split of LightGCN-PyTorch, three seeds.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_lastfm.sh [--workers 2]
# Time: 5 minutes on 2 cores; never run on a GPU. Test recall@20: LightGCN .273, BPR-MF .264, popularity .036.
# Writes experiments/results/lastfm.{csv,md,tex} and a page with charts into runs. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/lastfm.yaml "$@"
