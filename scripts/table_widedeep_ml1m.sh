#!/usr/bin/env bash
# Predicting likes on MovieLens-1M in RecBole's setting: logistic regression, FM, wide & deep, DeepFM, DCN-V2.
#   RECGRAPH_MIRROR=/path/to/datasets bash scripts/table_widedeep_ml1m.sh [--workers 2]
# Time: about 70 minutes on one busy core. Test auc: LR .871, wide & deep .898.
# Writes experiments/results/widedeep_ml1m.{csv,md,tex}. If killed, rerun to resume.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
recgraph table experiments/widedeep_ml1m.yaml "$@"
