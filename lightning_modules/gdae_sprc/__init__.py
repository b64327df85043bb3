from genic.lightning_modules.paper import Paper

PAPER = Paper(__name__, "GdaeSprc", "sprc", {"gdae": ("gdae", "GdaeCodec")})  # gdae: without its residual
