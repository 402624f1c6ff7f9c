"""Classical models that stand in every table beside the encoders."""

from recgraph.baselines.base import Baseline
from recgraph.baselines.popularity import Popularity

__all__ = ["Baseline", "Popularity"]
