#!/usr/bin/env bash
# LightGCN on Last.fm with friendships in its graph, of three weights, three seeds.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_lastfm_social.sh [--workers 2]
# Time: a minute and a half a run with one thread on a busy machine; never run on a GPU.
# Writes experiments/results/lastfm_social.{csv,md,tex}. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/lastfm_social.yaml "$@"
