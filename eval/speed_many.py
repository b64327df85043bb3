"""Pictures a second of `experiments.compress` and `experiments.decompress`: one at a time, in processes, in batches."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from genic.datamodules.images import list_images, read_image, write_png
from genic.eval.memory import run
from genic.lightning_modules.codec.errors import ConfigError

WAYS = {"one at a time": [], "--jobs 2": ["--jobs", "2"], "--batch 8": ["--batch", "8"]}


@dataclass(frozen=True)
class Rates:
    """Of one codec, run one way, each of a process from its start to its end: pictures a second there and back,
    processors' milliseconds a picture, and the bytes of all files."""

    codec: str
    way: str
    compress: float
    decompress: float
    compress_ms: float
    decompress_ms: float
    bytes: int


def measure(
    codecs: Sequence[str], folder: Path, count: int, side: int, progress: Callable[[], None]
) -> list[Rates]:
    """Rates of ``count`` crops of side×side pixels from the middle of the pictures in ``folder``.

    Raises:
        ConfigError: there are not so many large enough.
    """
    found = []
    with tempfile.TemporaryDirectory() as name:
        made, pictures = 0, Path(name) / "pictures"
        pictures.mkdir()
        for item in list_images(folder):
            if made == count:
                break
            image = read_image(Path(item.path))
            height, width = image.shape[:2]
            if min(height, width) >= side:
                top, left = (height - side) // 2, (width - side) // 2
                write_png(pictures / f"{made:05d}.png", image[top : top + side, left : left + side])
                made += 1
        if made < count:
            raise ConfigError(f"{folder} has {made} pictures of {side} pixels a side, not {count}")
        for codec in codecs:
            for way, how in WAYS.items():
                files, back = Path(name) / codec / way / "files", Path(name) / codec / way / "back"
                there = run("genic.experiments.compress", codec, str(pictures), "-o", str(files), *how)
                again = run("genic.experiments.decompress", str(files), "-o", str(back), *how)
                size = sum(file.stat().st_size for file in files.rglob("*.gnc"))
                rates = count / there.seconds, count / again.seconds
                cost = 1e3 * there.cpu / count, 1e3 * again.cpu / count
                found.append(Rates(codec, way, *rates, *cost, size))
                progress()
    return found
