"""The paper's codec."""

from genic.lightning_modules.hyperprior.codec import HyperpriorCodec


class MiniCodec(HyperpriorCodec):
    """``quality`` is the rate level."""

    id = "mini"
    paper = "mini"
