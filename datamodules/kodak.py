"""The Kodak PhotoCD set: 24 pictures, 768×512 or 512×768."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

from genic.datamodules.files import EvaluationOnly
from genic.datamodules.images import ImageItem, list_images
from genic.lightning_modules.codec.errors import DataError
from genic.lightning_modules.codec.files import write_atomic

NAMES = tuple(f"kodim{k:02d}.png" for k in range(1, 25))
URL = "https://r0k.us/graphics/kodak/kodak/"
SHA1 = "076e2a5fd4515b5fda677f15fe63dd112d266bc5"  # over the 24 files in order


class Kodak(EvaluationOnly):
    """The 24 files in ``<root>/kodak``. Where missing, they are fetched once into the user's cache."""

    name = "kodak"
    layout = "kodak/kodim01.png … kodim24.png"

    def pictures(self) -> list[ImageItem]:
        folder = self._found() or fetched()
        return [item for item in list_images(folder) if item.name in NAMES]

    def _found(self) -> Path | None:
        root = self.config.resolved_root()
        for folder in (root / self.name, root) if root is not None else ():
            missing = [name for name in NAMES if not (folder / name).is_file()]
            if not missing:
                return folder
            if len(missing) < len(NAMES):
                raise DataError(
                    f"{folder} lacks {', '.join(missing)}: put all 24 Kodak pictures there, or none"
                )
        return None


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/genic/kodak``, by default below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genic" / "kodak"


def fetched() -> Path:
    """The folder of the fetched set; fetches and checks it where it is not there yet.

    Raises:
        DataError: the network does not allow it, or what came is not the set.
    """
    folder = cache_folder()
    if all((folder / name).is_file() for name in NAMES):
        return folder
    remedy = "put kodim01.png to kodim24.png into DIR/kodak/ and set data.root or GENIC_DATA to DIR"
    digest, files = hashlib.sha1(usedforsecurity=False), {}
    for name in NAMES:
        try:
            with urllib.request.urlopen(URL + name, timeout=20) as response:
                files[name] = response.read()
        except (urllib.error.URLError, OSError) as error:
            raise DataError(
                f"Kodak is not at hand and {URL}{name} cannot be fetched ({error}): {remedy}"
            ) from error
        digest.update(files[name])
    if digest.hexdigest() != SHA1:
        raise DataError(f"the files fetched from {URL} are not the Kodak set (SHA-1 differs): {remedy}")
    for name, data in files.items():
        write_atomic(folder / name, data)
    return folder
