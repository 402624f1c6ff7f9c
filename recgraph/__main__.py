"""`python -m recgraph`."""

from recgraph.cli import main

main()
