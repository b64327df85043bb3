"""The codec of selective detail decoding: a picture to a file and back."""

from __future__ import annotations

from torch import Tensor

from genic.lightning_modules.codec.learned import LevelCodec
from genic.lightning_modules.selective_detail.config import SelectiveDetailModel
from genic.lightning_modules.selective_detail.system import System


class SelectiveDetailCodec(LevelCodec):
    """x̂ is that of equation 1. ``quality`` is the rate level, 0 to levels − 1, in steps of ⅛."""

    id = "sd"
    paper = "selective_detail"
    config_class = SelectiveDetailModel
    system_class = System
    system: System

    def _picture(self, z_hat: Tensor, level: Tensor) -> Tensor:
        return self.system.reconstruct(z_hat, level).x_hat
