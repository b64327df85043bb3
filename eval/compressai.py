"""To and from the JSON in which CompressAI keeps rate-distortion curves.

::

    {"name": …, "description": …, "results": {"bpp": […], "psnr-rgb": […], "ms-ssim-rgb": […], …}}

Lists run over qualities, each value a mean over pictures. ``python -m eval.compressai RESULT.json`` prints
a result of ours in that form.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genic.eval.measures import ms_ssim_db
from genic.eval.schema import CodecResult, Means, Point
from genic.lightning_modules.codec.errors import DataError

_KEYS = {
    "bpp": "bpp",
    "psnr-rgb": "psnr_rgb",
    "ms-ssim-rgb": "ms_ssim",
    "ssim-rgb": "ssim",
    "encoding_time": "encode_seconds",
    "decoding_time": "decode_seconds",
}
_ALSO = {"psnr": "psnr-rgb", "ms-ssim": "ms-ssim-rgb"}  # as older files have it


def to_compressai(result: CodecResult) -> dict:
    """Means only; a figure that some point lacks is left out."""
    columns = {key: [getattr(point.mean, name) for point in result.points] for key, name in _KEYS.items()}
    return {
        "name": result.codec,
        "description": result.description or f"{result.codec} on {result.data}",
        "results": {key: values for key, values in columns.items() if None not in values},
    }


def from_compressai(content: dict, data: str) -> CodecResult:
    """A result without pictures, qualities or provenance, its points in ascending order of rate.

    Raises:
        DataError: not such a curve.
    """
    try:
        columns = {_ALSO.get(key, key): values for key, values in content["results"].items()}
        count = len(columns["bpp"])
        points = []
        for k in sorted(range(count), key=lambda k: columns["bpp"][k]):
            figures: dict[str, Any] = {
                name: float(columns[key][k]) if key in columns else None for key, name in _KEYS.items()
            }
            db = None if figures["ms_ssim"] is None else ms_ssim_db(figures["ms_ssim"])
            points.append(Point(None, Means(**figures, ms_ssim_db=db)))
        return CodecResult(content["name"], data, None, points, content.get("description", ""))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"not a curve in CompressAI's form ({error!r}): give a file of its results/"
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.compressai", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("result", type=Path, help="a JSON file of experiments.evaluate")
    path = parser.parse_args(arguments).result
    try:
        if not path.is_file():
            raise DataError(f"no file {path}")
        print(json.dumps(to_compressai(CodecResult.from_json(path.read_text())), indent=2))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
