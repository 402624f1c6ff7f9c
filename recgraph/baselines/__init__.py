"""Classical models, which can be rows of any table beside the encoders."""

from recgraph.baselines.base import Baseline
from recgraph.baselines.popularity import Popularity

__all__ = ["Baseline", "Popularity"]
