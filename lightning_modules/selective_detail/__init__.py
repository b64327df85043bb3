from genic.lightning_modules.paper import Paper

PAPER = Paper(__name__, "SelectiveDetail", "sd", publication="Akutsu et al., CLIC 2020")
