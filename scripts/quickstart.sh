#!/usr/bin/env bash
# Popularity, BPR-MF and LightGCN on MovieLens-100K, three seeds: from nothing to a table.
#   bash scripts/quickstart.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph train experiments/quickstart.yaml

run=$(ls -dt runs/quickstart/LightGCN/ml-100k/*/seed-0 | head -n 1)
cat <<NEXT

What to try next
  source .venv/bin/activate                                  puts recgraph on your PATH
  recgraph recommend $run --user 42
                                                             ten films for user 42
  recgraph train experiments/quickstart.yaml encoder.num_layers=1 --rows LightGCN --runs runs/try
                                                             any setting, changed by its path
  recgraph list                                              everything that a YAML file can name
  bash scripts/test.sh                                       the tests
NEXT
