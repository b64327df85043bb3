"""The paper's configuration."""

from dataclasses import dataclass

from genic.lightning_modules.hyperprior.config import HyperpriorConfig


@dataclass
class MiniConfig(HyperpriorConfig):
    """That of the hyperprior."""
