#!/usr/bin/env bash
# Sentiment and ranking on Amazon Musical Instruments (random 80/10/10 by user; five seeds), and the TF-IDF reference.
#   bash scripts/table_sentiment_instruments.sh [--workers 2]
# Time: 40 minutes with one thread of a busy machine, most of it spent fitting texts. Never run on a GPU.
# Writes experiments/results/sentiment_instruments.{csv,md,tex}. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
python scripts/sentiment_reference.py
recgraph table experiments/sentiment_instruments.yaml "$@"
