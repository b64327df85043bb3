"""The codec of selective detail decoding: a picture to a file and back."""

from __future__ import annotations

from torch import Tensor

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.codec.learned import LevelCodec
from genic.lightning_modules.selective_detail.config import SelectiveDetailModel
from genic.lightning_modules.selective_detail.system import System


class SelectiveDetailCodec(LevelCodec):
    """x̂ is that of equation 1. ``quality`` is the rate level, 0 to levels − 1, in steps of ⅛.

    ``decode(data, detail=…)`` scales the mask, 0 to 2: 0 shows x̂_m, 1 x̂, 2 x̂_s, and values between
    what lies between. Ours, as Agustsson et al. 2023 let the viewer choose between realism and distortion.
    ``decode(data, mask=True)`` shows m instead, grey: 0 is black.
    """

    id = "sd"
    paper = "selective_detail"
    config_class = SelectiveDetailModel
    system_class = System
    system: System

    def _decode(self, container: Container, detail: float = 1.0, mask: bool = False) -> Image:
        """See `Codec.decode`.

        detail: factor on the mask, 0 (main decoder alone) to 2 (detail decoder alone).
        """
        if not 0 <= detail <= 2:
            raise ConfigError(f"detail is 0 (main decoder) to 2 (detail decoder), not {detail:g}")
        return super()._decode(container, detail=detail, mask=mask)

    def _picture(self, z_hat: Tensor, level: Tensor, detail: float = 1.0, mask: bool = False) -> Tensor:
        found = self.system.reconstruct(z_hat, level)
        return found.m.expand_as(found.x_hat) if mask else found.at(detail)
