"""genic, generative image compression: the folders of the repository under one name, in a checkout (through the links
beside this file) as in an installed wheel.

::

    import genic

    codec = genic.open_codec("selective_detail")
    data = codec.encode("photo.png", target_bpp=0.15)  # or a PIL image, a uint8 array, a float tensor
    picture = codec.decode(data)                       # uint8 H×W×3
    print(codec.info(data))
    points = genic.evaluate("jpeg", ["photo.png"])

What is named here is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genic.eval.runner import evaluate
    from genic.lightning_modules.codec.contract import Codec
    from genic.lightning_modules.codec.errors import GenicError
    from genic.lightning_modules.registry import codec_for, list_codecs, open_codec

__all__ = ["Codec", "GenicError", "codec_for", "evaluate", "list_codecs", "open_codec"]
__version__ = "0.1.0"

_HOMES = {
    "Codec": "genic.lightning_modules.codec.contract",
    "GenicError": "genic.lightning_modules.codec.errors",
    "codec_for": "genic.lightning_modules.registry",
    "evaluate": "genic.eval.runner",
    "list_codecs": "genic.lightning_modules.registry",
    "open_codec": "genic.lightning_modules.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'genic' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
