#!/usr/bin/env bash
# LightGCN on Last.fm with friendships in its graph at three weights; three seeds.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_lastfm_social.sh [--workers 2]
# Time: a minute and a half per run with one thread of a busy machine; never run on a GPU.
# Writes experiments/results/lastfm_social.{csv,md,tex}. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/lastfm_social.yaml "$@"
