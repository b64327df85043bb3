"""A paper outside genic: the hyperprior's system under another name."""

from genic.lightning_modules.paper import Paper

PAPER = Paper(__name__, "Mini", "mini")
