"""Codecs by name: ``jpeg``, ``selective_detail``, ``selective_detail:small``, ``selective_detail:PATH``.

Imports are lazy, so that a broken or heavy dependency of one codec does not touch the others.
"""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path

from lightning_modules.codec.container import Container
from lightning_modules.codec.contract import Codec
from lightning_modules.codec.errors import ConfigError, ForeignFileError

# name -> (identifier in files, "module:class"). A learned codec's class has the class method
# `load(which)`, where `which` is a preset's name, a path or the 4-byte identity of shipped weights.
CLASSICAL = {
    "jpeg": ("jpeg", "eval.classical.jpeg:Jpeg"),
    "jpeg2000": ("jp2", "eval.classical.jpeg2000:Jpeg2000"),
    "webp": ("webp", "eval.classical.webp:WebP"),
    "avif": ("avif", "eval.classical.avif:Avif"),
    "avif-default": ("avid", "eval.classical.avif:AvifDefault"),
    "hevc": ("hevc", "eval.classical.hevc:Hevc"),
    "bpg": ("bpg", "eval.classical.bpg:Bpg"),
    "jxl": ("jxl", "eval.classical.jxl:JpegXl"),
    "kmeans": ("kmn", "eval.classical.kmeans:KMeans"),
}
LEARNED = {
    "gdae": (
        "gdae",
        "lightning_modules.gdae_sprc.autoencoder_codec:GdaeCodec",
    ),  # gdae_sprc without its residual
    "gdae_sprc": ("sprc", "lightning_modules.gdae_sprc.codec:GdaeSprcCodec"),
    "selective_detail": ("sd", "lightning_modules.selective_detail.codec:SelectiveDetailCodec"),
    "gan_reversal": ("gr", "lightning_modules.gan_reversal.codec:GanReversalCodec"),
    "extreme_semantic": ("es", "lightning_modules.extreme_semantic.codec:ExtremeSemanticCodec"),
    "ppgn_inpainting": ("ppgn", "lightning_modules.ppgn_inpainting.codec:PpgnInpaintingCodec"),
}


def open_codec(name: str) -> Codec:
    """The codec ``name`` or ``name:which``; `ConfigError` names the nearest known one otherwise."""
    base, _, which = name.partition(":")
    if base in CLASSICAL and not which:
        return _load(CLASSICAL[base][1])()
    if base in LEARNED:
        return _load(LEARNED[base][1]).load(which or "small")
    known = [*CLASSICAL, *LEARNED]
    near = difflib.get_close_matches(base, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    raise ConfigError(f"no codec {name!r}: {hint}")


def codec_for(data: bytes, weights: Path | None = None) -> Codec:
    """The codec that wrote a file; a learned one with the weights of the file's identity, or ``weights``."""
    container = Container.from_bytes(data)
    for identifier, target in CLASSICAL.values():
        if identifier == container.codec:
            return _load(target)()
    for identifier, target in LEARNED.values():
        if identifier == container.codec:
            return _load(target).load(weights if weights is not None else container.weights)
    raise ForeignFileError(f"the file names codec {container.codec!r}, unknown to this genic: upgrade genic")


def _load(target: str) -> type:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
