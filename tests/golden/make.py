"""Make the golden files: ``python -m tests.golden.make``. Done once; it overwrites nothing.

Files of this format must decode for ever to the symbols beside them, and the symbols must encode to the same bytes. So
a change that needs new golden files is a new version of the format, with these kept and others added.

- ``golden.safetensors``: the networks of a tiny random `selective_detail` codec; ``tables.npz``: its tables.
- ``NAME.gnc``: files of small procedural pictures, and one of symbols no picture gives, with escapes.
- ``golden.npz``: of each file the symbols, the integers that the exact networks predict, and the decoded picture.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.weights import load_weights, save_weights
from genic.lightning_modules.entropy.gaussian import GaussianTables
from genic.lightning_modules.selective_detail.codec import SelectiveDetailCodec
from genic.lightning_modules.selective_detail.config import SelectiveDetailModel
from tests.conformance.paths import parameters
from tests.conformance.subjects import Latents, random_weights

FOLDER = Path(__file__).parent
WEIGHTS, TABLES, ARRAYS = FOLDER / "golden.safetensors", FOLDER / "tables.npz", FOLDER / "golden.npz"
TINY = SelectiveDetailModel(
    latents=4,
    E=[3, 4, 4, 4, 8],
    E_blocks=[0, 0, 0, 1],
    G_m=[8, 4, 4, 4, 3],
    G_m_blocks=[1, 0, 0, 0],
    G_s=[8, 4, 4, 4, 4],
    G_s_blocks=[0, 0, 0, 0],
    hyper=4,
    hyper_blocks=0,
    psi=8,
    context=16,
    heads=2,
    radius=3,
    levels=2,
)


def golden_tables() -> GaussianTables:
    """The committed tables."""
    with np.load(TABLES) as file:
        return GaussianTables.from_state({name: torch.from_numpy(file[name]) for name in file.files})


def golden_codec() -> SelectiveDetailCodec:
    """The codec of the committed weights and tables."""
    tensors, metadata = load_weights(WEIGHTS)
    return SelectiveDetailCodec(tensors | golden_tables().state(), metadata)


def procedural(height: int, width: int) -> np.ndarray:
    """Ramps, a disk and stripes, from integers alone."""
    i, j = np.mgrid[:height, :width]
    disk = (4 * (i - height // 2) ** 2 + 4 * (j - width // 2) ** 2 < min(height, width) ** 2) * 90
    channels = [i * 3 + disk, j * 2 + 40, 60 + 70 * ((i + 2 * j) // 6 % 2) + disk]
    return np.stack(channels, -1).clip(0, 255).astype(np.uint8)


def subjects(codec: SelectiveDetailCodec) -> dict[str, tuple[int, int, Latents]]:
    """Height, width and symbols of each file, by name."""
    made = {}
    for (height, width), quality in {(1, 1): 0.0, (17, 33): 1.0, (48, 64): 0.625, (64, 40): 0.0}.items():
        made[f"picture_{height}x{width}"] = (
            height,
            width,
            Latents(*codec.analyse(procedural(height, width), quality)),
        )
    rng = np.random.default_rng(0)
    z_hat, z_h_hat = (
        rng.laplace(0, 6, (TINY.latents, 5, 7)).round(),
        rng.laplace(0, 3, (TINY.hyper, 2, 2)).round(),
    )
    z_hat[:, 2, 3], z_hat[0, 0, 0], z_hat[-1, -1, -1] = 40, 511, -511
    arrays = (torch.from_numpy(z.astype(np.float32)) for z in (z_hat, z_h_hat))
    made["escapes"] = 80, 112, Latents(*arrays, 0.125)
    return made


def main() -> int:
    if WEIGHTS.exists() or ARRAYS.exists():
        print(
            f"{FOLDER} holds golden files: a new version of the format adds others, it replaces none",
            file=sys.stderr,
        )
        return 1
    tensors, metadata = random_weights(TINY)
    tables = {name: tensors.pop(name).numpy() for name in GaussianTables.from_state(tensors).state()}
    np.savez_compressed(TABLES, **tables)
    save_weights(WEIGHTS, tensors, metadata)
    codec = golden_codec()
    arrays = {}
    for name, (height, width, x) in subjects(codec).items():
        data = Container(codec.id, height, width, codec.coder.encode(*x), codec.weights_id).to_bytes()
        (FOLDER / f"{name}.gnc").write_bytes(data)
        arrays[f"{name}/z_hat"], arrays[f"{name}/z_h_hat"] = (z.numpy().astype(np.int16) for z in x[:2])
        arrays[f"{name}/level"] = np.array(x.level)
        arrays[f"{name}/parameters"] = (
            parameters(codec.coder, [x], by_diagonal=True)[0].numpy().astype(np.int32)
        )
        arrays[f"{name}/picture"] = codec.decode(data)
        print(f"{name}: {len(data)} bytes")
    np.savez_compressed(ARRAYS, **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(main())
