#!/usr/bin/env bash
# LightGCN on Last.fm with friendships in its graph, of three weights, three seeds.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_lastfm_social.sh [--workers 2]
# Time: about as long as table_lastfm.sh a row; never run in full, and never on a GPU.
# Writes experiments/results/lastfm_social.{csv,md,tex}. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/lastfm_social.yaml "$@"
