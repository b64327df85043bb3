"""Golden files of every learned codec: ``python -m tests.golden.every PAPER…``, once for each paper.

Files of this format must decode for ever, to the symbols and the picture beside them. So a change that needs new ones
is a new version of the format, with these kept and others added. A folder a paper:

- ``weights.npz``: of its preset `nano`, random. Where the configuration has since been given another form,
  `experiments.migrate` brings them to it; then the identity in the files is brought up to date, too.
- ``CODEC-CASE.gnc``: files of small procedural pictures, by each of its codecs; `CASES` has what is peculiar to one.
- ``decoded.npz``: of each file all columns that range decoders gave, in their order, and the decoded picture.

Beside the folders ``restored.gnc`` and its picture: of `gdae_sprc` with a restoration (``python -m tests.golden.every
restored``).
"""

from __future__ import annotations

import dataclasses
import json
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from genic.datamodules.images import read_image, write_png
from genic.experiments.migrate import migrate
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Codec, Image
from genic.lightning_modules.codec.learned import LearnedCodec
from genic.lightning_modules.codec.weights import as_stored
from genic.lightning_modules.gdae_sprc.codec import GdaeSprcCodec
from genic.lightning_modules.gdae_sprc.networks import Restoration
from genic.lightning_modules.registry import PAPERS, Paper, learned
from tests.coded import decoded

FOLDER = Path(__file__).parent
METADATA = "metadata"


class Case(NamedTuple):
    """A file to be made: size, position of the quality in the codec's list, options of `encode`."""

    height: int
    width: int
    quality: int = 0
    options: dict[str, Any] = {}  # noqa: RUF012


def labels(height: int, width: int) -> np.ndarray:
    """Three classes, in bands."""
    return (np.mgrid[:height, :width][0] * 3 // height).astype(np.uint8)


# Of every codec.
COMMON = {"1x1": Case(1, 1), "17x33": Case(17, 33, -1), "64x48": Case(64, 48), "48x64": Case(48, 64, -1)}
# What else a codec's files may hold.
CASES: dict[str, dict[str, Case]] = {
    "extreme_semantic": {
        "selective": Case(64, 80, -1, {"labels": labels(64, 80), "synthesise": "building", "seed": 5}),
        "synthesised": Case(64, 80, 0, {"labels": labels(64, 80), "preserve": ""}),
    },
    "gdae": {coder: Case(64, 80, -1, {"latents": coder}) for coder in ("learned", "jpeg_xl")},
    "gan_reversal": {"layered": Case(64, 80, -1, {"layered": True, "steps": 2})},
    "ppgn_inpainting": {
        scheme: Case(64, 80, -1, {"scheme": scheme})
        for scheme in ("square", "pixels", "edges", "blocks", "blocks_random")
    }
    | {"assisted": Case(64, 80, -1, {"scheme": "square", "steps": 1, "assistants": ["edge"]})},
}
OPTIONS: dict[str, dict[str, Any]] = {"gan_reversal": {"steps": 2}}
"""What makes a codec's encoder quick."""


def procedural(height: int, width: int) -> Image:
    """Ramps, a disk and stripes, from integers alone."""
    i, j = np.mgrid[:height, :width]
    disk = (4 * (i - height // 2) ** 2 + 4 * (j - width // 2) ** 2 < min(height, width) ** 2) * 90
    channels = [i * 3 + disk, j * 2 + 40, 60 + 70 * ((i + 2 * j) // 6 % 2) + disk]
    return np.stack(channels, -1).clip(0, 255).astype(np.uint8)


def paper_of(codec: str) -> Paper:
    """The paper whose codec has this name."""
    return next(paper for paper in PAPERS.values() if codec in paper.codecs())


def golden_weights(codec: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The committed weights and their metadata, as the present configuration has them."""
    paper = paper_of(codec)
    kind = pkgutil.resolve_name(learned()[codec][1])
    with np.load(FOLDER / paper.name / "weights.npz") as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != METADATA}
        metadata = json.loads(str(arrays[METADATA]))
    if set(json.loads(metadata["config"])) != {field.name for field in dataclasses.fields(kind.config_class)}:
        tensors, metadata = migrate(tensors, metadata)
    return tensors, metadata


def golden_codec(codec: str, device: str = "cpu") -> LearnedCodec:
    """The codec of the committed weights."""
    return pkgutil.resolve_name(learned()[codec][1])(*golden_weights(codec), device)


def restoring_codec(device: str = "cpu") -> GdaeSprcCodec:
    """`gdae_sprc` of the committed weights and a restoration of integers."""
    tensors, metadata = golden_weights("gdae_sprc")
    config = json.loads(metadata["config"]) | {"R": 4, "R_blocks": 1}
    for name, tensor in Restoration(4, 1).state_dict().items():
        values = (torch.arange(tensor.numel()) * 37 % 101 - 50) / 500
        tensors[f"R.{name}"] = values.reshape(tensor.shape).half()
    return GdaeSprcCodec(tensors, metadata | {"config": json.dumps(config)}, device)


def golden_restored(weights: bytes) -> tuple[bytes, Image]:
    """The file, with ``weights`` for identity, and its picture."""
    container = Container.from_bytes((FOLDER / "restored.gnc").read_bytes())
    return dataclasses.replace(container, weights=weights).to_bytes(), read_image(FOLDER / "restored.png")


def make_restored() -> None:
    """The file, made from one without: R of integers restores nothing that an encoder would choose."""
    codec = restoring_codec()
    plain = Container.from_bytes(codec.encode(procedural(33, 47), 20.0, strength=0.0, restore=False))
    sections = plain.sections | {"restoration": bytes([5 * 31])}
    data = dataclasses.replace(plain, sections=sections).to_bytes()
    (FOLDER / "restored.gnc").write_bytes(data)
    write_png(FOLDER / "restored.png", codec.decode(data))


def golden_files(codec: str, weights: bytes) -> dict[str, tuple[bytes, np.ndarray, Image]]:
    """Case -> file, with ``weights`` for identity, the columns it decodes to, the picture."""
    folder, files = FOLDER / paper_of(codec).name, {}
    with np.load(folder / "decoded.npz") as arrays:
        for path in sorted(folder.glob(f"{codec}-*.gnc")):
            name = path.stem
            container = Container.from_bytes(path.read_bytes())
            files[name.removeprefix(f"{codec}-")] = (
                dataclasses.replace(container, weights=weights).to_bytes(),
                arrays[f"{name}/columns"],
                arrays[f"{name}/picture"],
            )
    return files


def make(paper: Paper) -> None:
    """The folder of a paper."""
    from genic.experiments.config import load_config

    folder = FOLDER / paper.name
    torch.manual_seed(0)
    module = paper.module_class()(load_config(paper.name, ["preset=nano"]).paper())
    with torch.no_grad():
        for parameter in module.system.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    folder.mkdir()
    tensors = {name: tensor.numpy() for name, tensor in as_stored(module.export_weights()).items()}
    metadata = np.array(json.dumps(module.metadata()))
    np.savez_compressed(folder / "weights.npz", **tensors, **{METADATA: metadata})
    arrays = {}
    for name in paper.codecs():
        codec: Codec = golden_codec(name)
        for case, (height, width, at, options) in (COMMON | CASES.get(name, {})).items():
            options = OPTIONS.get(name, {}) | options
            data = codec.encode(procedural(height, width), codec.qualities[at], **options)
            with decoded() as columns:
                arrays[f"{name}-{case}/picture"] = codec.decode(data)
            arrays[f"{name}-{case}/columns"] = columns.all()
            (folder / f"{name}-{case}.gnc").write_bytes(data)
            print(f"{name}-{case}: {len(data)} bytes, {np.unique(columns.all()).size} different columns")
    np.savez_compressed(folder / "decoded.npz", **arrays)


def main(names: Sequence[str]) -> int:
    for name in names:
        if name == "restored" and not (FOLDER / "restored.gnc").exists():
            make_restored()
            continue
        if any(FOLDER.glob(f"{name}*")):
            print(
                f"{FOLDER / name} is there: a new version of the format adds files, it replaces none",
                file=sys.stderr,
            )
            return 1
        make(PAPERS[name])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
