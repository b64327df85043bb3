"""The paper's training."""

from genic.lightning_modules.hyperprior.module import Hyperprior
from mini.codec import MiniCodec


class Mini(Hyperprior):
    """That of the hyperprior."""

    paper = "mini"
    codec_class = MiniCodec
