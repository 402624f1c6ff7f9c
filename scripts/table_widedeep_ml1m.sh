#!/usr/bin/env bash
# Predicting which films of MovieLens-1M are liked, in RecBole's setting: logistic regression, FM, wide & deep, DeepFM, DCN-V2.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_widedeep_ml1m.sh [--workers 2]
# Time, one core: an epoch of LR takes 0.3 s, of WideDeep 9 s; LR was best after 16 epochs. Test auc of LR: .871.
# Writes experiments/results/widedeep_ml1m.{csv,md,tex}. A killed script goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/widedeep_ml1m.yaml "$@"
