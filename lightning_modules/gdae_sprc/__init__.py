from genic.lightning_modules.paper import Paper

PAPER = Paper(
    __name__,
    "GdaeSprc",
    "sprc",
    {"gdae": ("gdae", "GdaeCodec")},  # without its residual
    publication="Wang (Waseda), slides 2020",
)
