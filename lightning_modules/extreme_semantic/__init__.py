from genic.lightning_modules.paper import Paper

PAPER = Paper(__name__, "ExtremeSemantic", "es", publication="Agustsson et al. 2019")
