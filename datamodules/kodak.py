"""The Kodak PhotoCD set: 24 pictures, 768×512 or 512×768."""

from __future__ import annotations

import json
from pathlib import Path

from genic.datamodules.files import EvaluationOnly
from genic.datamodules.images import ImageItem, list_images
from genic.lightning_modules.codec.errors import DataError, needs

NAMES = tuple(f"kodim{k:02d}.png" for k in range(1, 25))
URL = "https://r0k.us/graphics/kodak/kodak/"
HASHES = Path(__file__).with_name("kodak.json")  # SHA-256 of each file


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


def fetched() -> Path:
    """The folder of the set in the user's cache (``$XDG_CACHE_HOME/genic/kodak``, by default below ``~/.cache``);
    fetches what is missing, and checks every file.

    Raises:
        DataError: the network does not allow it, or what came is not the set.
    """
    with needs("eval"):
        import pooch

    pooch.get_logger().setLevel("WARNING")
    folder = Path(pooch.os_cache("genic")) / "kodak"
    shelf = pooch.create(folder, URL, registry=json.loads(HASHES.read_text()))
    try:
        for name in NAMES:
            shelf.fetch(name)
    except (OSError, ValueError) as error:
        raise DataError(
            f"Kodak is not at hand and cannot be fetched from {URL} ({error}): "
            "put kodim01.png to kodim24.png into DIR/kodak/ and set data.root or GENIC_DATA to DIR"
        ) from error
    return folder
