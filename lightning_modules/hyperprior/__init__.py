from genic.lightning_modules.paper import Paper

PAPER = Paper(__name__, "Hyperprior", "hp", publication="Minnen, Ballé, Toderici, NeurIPS 2018")
