from genic.lightning_modules.paper import Paper

PAPER = Paper(__name__, "PpgnInpainting", "ppgn", publication="Kuznetsov and Singhal")
