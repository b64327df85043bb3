"""What is trained and what a codec is rebuilt from: generator, prior and, where there is one, E."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from lightning_modules.gan_reversal.config import GanReversalConfig
from lightning_modules.gan_reversal.dcgan import DcganDiscriminator, DcganGenerator
from lightning_modules.gan_reversal.networks import Discriminator, Guess, ResidualGenerator
from lightning_modules.gan_reversal.prior import Prior


class System(nn.Module):
    """G, the prior's quantiser and E.

    Attributes:
        G: z -> x̂, with `stride`, `reach` and `grid`.
        prior: indices of the quantiser.
        E: x -> z, or None.
    """

    def __init__(self, config: GanReversalConfig) -> None:
        super().__init__()
        config.check()
        self.G = DcganGenerator(config) if config.generator == "dcgan" else ResidualGenerator(config)
        self.E = Guess(config) if config.guess else None
        self.prior = Prior(config.latents, config.scale_index, trained=config.lambda_rate > 0)

    def exported(self) -> dict[str, Tensor]:
        """Tensors of a weights file: the networks' and the integer indices."""
        state = {name: t for name, t in self.state_dict().items() if not name.startswith("prior.")}
        return state | {"prior.index": self.prior.exported()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `exported`; RuntimeError or KeyError where the tensors do not fit."""
        state = {name: t for name, t in tensors.items() if name != "prior.index"}
        self.load_state_dict(state | {"prior.offset": self.prior.offset_of(tensors["prior.index"])})


def discriminator(config: GanReversalConfig) -> nn.Module:
    """D of the configuration's kind."""
    return DcganDiscriminator(config) if config.generator == "dcgan" else Discriminator(config)
