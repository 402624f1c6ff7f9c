#!/usr/bin/env bash
# Popularity, BPR-MF and LightGCN on MovieLens-100K, three seeds: from installation to a table.
#   bash scripts/quickstart.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/ml100k.yaml --seeds 0,1,2

run=$(ls -dt runs/ml100k/LightGCN/ml-100k/*/seed-0 | head -n 1)
cat <<NEXT

What to try next
  source .venv/bin/activate                                  puts recgraph on your PATH
  recgraph recommend $run --user 42
                                                             ten films for user 42
  recgraph train experiments/ml100k.yaml encoder.num_layers=1 --rows LightGCN --runs runs/try
                                                             any setting, changed by its path
  recgraph list                                              everything that a YAML file can name
  bash scripts/test.sh                                       the tests
NEXT
