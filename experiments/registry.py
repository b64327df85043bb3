"""The papers by name: which LightningModule trains each, and which dataclass configures it.

To add a paper, add a line here and one to `lightning_modules.codec.registry`, and write its presets under
``experiments/presets/<paper>/``.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass

from lightning_modules.codec.errors import ConfigError


@dataclass(frozen=True)
class Experiment:
    """A paper's training.

    Attributes:
        name: of the package under ``lightning_modules``, and on the command line.
        module: "module:class" of its `lightning_modules.base.CompressionModule`.
        config: "module:class" of the dataclass that the module is made from.
    """

    name: str
    module: str
    config: str

    def module_class(self) -> type:
        """The module's class; imported here and not before."""
        return _load(self.module)

    def config_class(self) -> type:
        """The configuration's class."""
        return _load(self.config)


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "gdae_sprc",
            "lightning_modules.gdae_sprc.module:GdaeSprc",
            "lightning_modules.gdae_sprc.config:GdaeSprcConfig",
        ),
        Experiment(
            "selective_detail",
            "lightning_modules.selective_detail.module:SelectiveDetail",
            "lightning_modules.selective_detail.config:SelectiveDetailConfig",
        ),
        Experiment(
            "gan_reversal",
            "lightning_modules.gan_reversal.module:GanReversal",
            "lightning_modules.gan_reversal.config:GanReversalConfig",
        ),
        Experiment(
            "extreme_semantic",
            "lightning_modules.extreme_semantic.module:ExtremeSemantic",
            "lightning_modules.extreme_semantic.config:ExtremeSemanticConfig",
        ),
        Experiment(
            "ppgn_inpainting",
            "lightning_modules.ppgn_inpainting.module:PpgnInpainting",
            "lightning_modules.ppgn_inpainting.config:PpgnInpaintingConfig",
        ),
    )
}


def find_experiment(name: str) -> Experiment:
    """The experiment of that name; `ConfigError` names the nearest one otherwise."""
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    near = difflib.get_close_matches(name, EXPERIMENTS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(EXPERIMENTS)}"
    raise ConfigError(f"no experiment {name!r}; {hint}")


def _load(target: str) -> type:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
