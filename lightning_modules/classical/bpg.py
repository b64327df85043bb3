"""BPG by Bellard's `bpgenc` and `bpgdec`, where they are installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from genic.lightning_modules.classical.base import ClassicalCodec, Image
from genic.lightning_modules.codec.errors import DamagedFileError, ToolError
from genic.lightning_modules.codec.lossless import check_size
from genic.lightning_modules.codec.rate_control import whole

_SECONDS = 600


class Bpg(ClassicalCodec):
    """`bpgenc -f 444 -m 9`; quality is its quantisation parameter, 51 (smallest) to 0.

    `hevc` stands for it where the programs are missing.
    """

    id = "bpg"
    qualities = (51, 47, 43, 39, 36, 33, 30, 27)
    default_quality = 33
    quality_steps = whole(51, 0)
    quality_meaning = "the quantisation parameter"

    def compress(self, image: Image, quality: float) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in.png"), Path(folder, "out.bpg")
            PillowImage.fromarray(image).save(source)
            _run("bpgenc", "-f", "444", "-m", "9", "-q", str(round(quality)), "-o", str(target), str(source))
            return target.read_bytes()

    def decompress(self, payload: bytes, height: int, width: int) -> Image:
        check_size(*_claimed_size(payload), height, width)
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in.bpg"), Path(folder, "out.png")
            source.write_bytes(payload)
            _run("bpgdec", "-o", str(target), str(source))
            with PillowImage.open(target) as picture:
                return np.array(picture.convert("RGB"))


def _run(program: str, *arguments: str) -> None:
    path = shutil.which(program)
    if path is None:
        raise ToolError(
            f"{program} is not on the PATH: install libbpg, or use codec 'hevc', which stands for it"
        )
    try:
        subprocess.run([path, *arguments], check=True, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise ToolError(f"{program} did not end within {_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        raise ToolError(f"{program} failed: {error.stderr.strip() or error.returncode}") from error


def _claimed_size(payload: bytes) -> tuple[int, int]:
    """Height and width in a BPG header: magic, two bytes of flags, then both in big-endian base 128."""
    if payload[:4] != b"BPG\xfb":
        raise DamagedFileError("the payload is not a BPG file")
    sides, position = [], 6
    for _ in range(2):
        value = 0
        while True:
            if position >= min(len(payload), 16):
                raise DamagedFileError("the BPG header is truncated")
            value = value << 7 | payload[position] & 0x7F
            position += 1
            if payload[position - 1] < 0x80:
                break
        sides.append(value)
    return sides[1], sides[0]
