"""Everything that has a name: the papers, whose codecs are learned, the classical codecs, and CompressAI's.

::

    jpeg    selective_detail    selective_detail:small    selective_detail:runs/selective_detail/small
    compressai:mbt2018:4:checkpoint.pth.tar

Imports are lazy, so that a broken or heavy dependency of one codec does not touch the others. To add a paper, add its
line to `PAPERS` and follow ``docs/add_a_paper.md``.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass, field
from pathlib import Path

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Codec
from genic.lightning_modules.codec.errors import ConfigError, ForeignFileError, did_you_mean


@dataclass(frozen=True)
class Paper:
    """A published system: the package ``lightning_modules.<name>``, with ``config``, ``module`` and ``codec``.

    Attributes:
        name: of the package, on the command line, in weights files.
        stem: of its classes: ``<stem>`` (the LightningModule), ``<stem>Config``, ``<stem>Codec``.
        id: of its codec in files; short, since it counts as rate.
        variants: further codecs of the same weights: name -> (id in files, class).
    """

    name: str
    stem: str
    id: str
    variants: dict[str, tuple[str, str]] = field(default_factory=dict)

    def module_class(self) -> type:
        """Its `lightning_modules.base.CompressionModule`; imported here and not before."""
        return pkgutil.resolve_name(f"genic.lightning_modules.{self.name}.module:{self.stem}")

    def config_class(self) -> type:
        """Its configuration, in parts ``model``, ``train`` and ``coding``."""
        return pkgutil.resolve_name(f"genic.lightning_modules.{self.name}.config:{self.stem}Config")

    def codecs(self) -> dict[str, tuple[str, str]]:
        """Name -> (id in files, "module:class") of each codec."""
        module = f"genic.lightning_modules.{self.name}.codec"
        named = {self.name: (self.id, f"{self.stem}Codec"), **self.variants}
        return {name: (identifier, f"{module}:{target}") for name, (identifier, target) in named.items()}


PAPERS = {
    paper.name: paper
    for paper in (
        Paper("selective_detail", "SelectiveDetail", "sd"),
        Paper("gdae_sprc", "GdaeSprc", "sprc", {"gdae": ("gdae", "GdaeCodec")}),  # gdae: without its residual
        Paper("gan_reversal", "GanReversal", "gr"),
        Paper("ppgn_inpainting", "PpgnInpainting", "ppgn"),
        Paper("extreme_semantic", "ExtremeSemantic", "es"),
        Paper("hyperprior", "Hyperprior", "hp"),
    )
}

# name -> (id in files, "module:class").
CLASSICAL = {
    "jpeg": ("jpeg", "genic.lightning_modules.classical.jpeg:Jpeg"),
    "jpeg2000": ("jp2", "genic.lightning_modules.classical.jpeg2000:Jpeg2000"),
    "webp": ("webp", "genic.lightning_modules.classical.webp:WebP"),
    "avif": ("avif", "genic.lightning_modules.classical.avif:Avif"),
    "avif-default": ("avid", "genic.lightning_modules.classical.avif:AvifDefault"),
    "hevc": ("hevc", "genic.lightning_modules.classical.hevc:Hevc"),
    "bpg": ("bpg", "genic.lightning_modules.classical.bpg:Bpg"),
    "jxl": ("jxl", "genic.lightning_modules.classical.jxl:JpegXl"),
    "kmeans": ("kmn", "genic.lightning_modules.classical.kmeans:KMeans"),
}

# Networks from elsewhere, always with a checkpoint: name -> (id in files, "module:class" with `load` and `of_file`).
EXTERNAL = {"compressai": ("cai", "genic.lightning_modules.external.compressai:CompressAi")}


def learned() -> dict[str, tuple[str, str]]:
    """The learned codecs: name -> (id in files, "module:class" with the class method `load(which)`)."""
    return {name: target for paper in PAPERS.values() for name, target in paper.codecs().items()}


def find_paper(name: str) -> Paper:
    """The paper of that name; `ConfigError` names the nearest one otherwise."""
    if name not in PAPERS:
        raise ConfigError(f"no experiment {name!r}; {did_you_mean(name, PAPERS)}")
    return PAPERS[name]


def open_codec(name: str) -> Codec:
    """The codec ``name`` or ``name:which``; `ConfigError` names the nearest known one otherwise."""
    base, _, which = name.partition(":")
    if base in CLASSICAL and not which:
        return pkgutil.resolve_name(CLASSICAL[base][1])()
    if base in learned():
        return pkgutil.resolve_name(learned()[base][1]).load(which or "small")
    if base in EXTERNAL:
        return pkgutil.resolve_name(EXTERNAL[base][1]).load(which)
    raise ConfigError(f"no codec {name!r}: {did_you_mean(base, [*CLASSICAL, *learned(), *EXTERNAL])}")


def codec_for(data: bytes, weights: Path | None = None) -> Codec:
    """The codec that wrote a file; a learned one with the weights of the file's identity, or ``weights``."""
    container = Container.from_bytes(data)
    for identifier, target in CLASSICAL.values():
        if identifier == container.codec:
            return pkgutil.resolve_name(target)()
    for identifier, target in learned().values():
        if identifier == container.codec:
            return pkgutil.resolve_name(target).load(weights if weights is not None else container.weights)
    for identifier, target in EXTERNAL.values():
        if identifier == container.codec:
            return pkgutil.resolve_name(target).of_file(container, weights)
    raise ForeignFileError(f"the file names codec {container.codec!r}, unknown to this genic: upgrade genic")
