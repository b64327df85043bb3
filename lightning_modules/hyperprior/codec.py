"""The codec of joint autoregressive and hierarchical priors: a picture to a file and back."""

from __future__ import annotations

from genic.lightning_modules.codec.learned import LevelCodec
from genic.lightning_modules.hyperprior.config import HyperpriorModel
from genic.lightning_modules.hyperprior.system import System


class HyperpriorCodec(LevelCodec):
    """``quality`` is the rate level, 0 to levels − 1, in steps of ⅛."""

    id = "hp"
    paper = "hyperprior"
    config_class = HyperpriorModel
    system_class = System
