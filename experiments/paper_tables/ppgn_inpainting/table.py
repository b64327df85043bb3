"""The table: the 13 published rows at the bytes of JPEG's quality 1, and what else fits.

::

    python -m experiments.tables ppgn_inpainting table                 # whole pictures, filled by the filler alone
    python -m experiments.tables ppgn_inpainting table --crop 256 --steps 20    # crops, sampled with PPGN

Crops have the 256×256 pixels of the networks of the time. Files are written here, decoded in another process, and
measured once: a command that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from genic.eval.metrics import unavailable
from genic.eval.runner import Task, WorkerPairs, measure_files
from genic.eval.schema import Means
from genic.eval.tables import number, table
from genic.experiments.paper_tables.common import pictures, save, unmet
from genic.experiments.paper_tables.ppgn_inpainting.common import codec_name, crop, parser

LPIPS = "lpips_alex"


class Row(NamedTuple):
    """A line of the table: means over all pictures, or None where ``failed`` of them cannot be made that small."""

    scheme: str
    published: float | None
    mean: Means | None
    failed: int = 0


class Scheme(NamedTuple):
    """A row: its name, the SSIM published for it, how the codec makes it, and another codec where it is not ours."""

    name: str
    published: float | None
    options: Mapping[str, object]
    codec: str | None = None


def _sampled(scheme: str, *assistants: str) -> dict[str, object]:
    return {"scheme": scheme, "steps": None, "assistants": assistants}


JPEG = {1: 0.438, 5: 0.555, 25: 0.797, 50: 0.864}
PUBLISHED = (
    Scheme("Pixel sampling", 0.126, _sampled("pixels")),
    Scheme("Pixel sampling + style loss", 0.149, _sampled("pixels", "style")),
    Scheme("Pixel sampling + content loss", 0.156, _sampled("pixels", "content")),
    Scheme("Pixel sampling + edge loss", 0.154, _sampled("pixels", "edge")),
    Scheme("Block sampling", 0.366, _sampled("blocks")),
    Scheme("Block+Random sampling", 0.389, _sampled("blocks_random")),
    Scheme("B+R sampling + style loss", 0.398, _sampled("blocks_random", "style")),
    Scheme("B+R sampling + content loss", 0.403, _sampled("blocks_random", "content")),
    Scheme("B+R sampling + edge loss", 0.399, _sampled("blocks_random", "edge")),
)
FORERUNNER = Scheme(
    "B+R, G's own picture (PPGN as published)", None, _sampled("blocks_random") | {"refine": False}
)
BESIDE = (
    Scheme("Central square", None, {"scheme": "square"}),
    Scheme("Edge pixels", None, {"scheme": "edges"}),
    Scheme("Pixels, filler alone", None, {"scheme": "pixels"}),
    Scheme("Blocks, filler alone", None, {"scheme": "blocks"}),
    Scheme("Blocks+random, filler alone", None, {"scheme": "blocks_random"}),
    Scheme("Pixels + thumbnail 1/8", None, {"scheme": "pixels", "assist": 1 / 8}),
    Scheme("Blocks+random + thumbnail 1/8", None, {"scheme": "blocks_random", "assist": 1 / 8}),
    Scheme("Thumbnail, restored", None, {"scheme": "thumbnail"}),
)
SPLIT = (
    *(
        Scheme(f"Thumbnail of scale {s:.3g}", None, {"scheme": "thumbnail", "scale": s})
        for s in (1, 2 / 3, 1 / 2, 1 / 3)
    ),
    *(Scheme(f"Blocks, {100 * k:.0f} % kept", None, {"scheme": "blocks", "keep": k}) for k in (0.15, 0.6)),
)
AVIF = Scheme("AVIF (4:4:4, tuned for PSNR)", None, {}, "avif")


def main(arguments: Sequence[str]) -> int:
    """The command line after ``experiments.tables ppgn_inpainting table``; returns the exit status."""
    options = _parser().parse_args(arguments)
    items = pictures(options)
    if options.crop is not None:
        items = [crop(item, options.crop) for item in items]
    networks = () if unavailable(LPIPS) else (LPIPS,)
    ours = codec_name(options)
    with WorkerPairs(options.devices, options.threads) as workers:
        measure = partial(measure_files, workers=workers, networks=networks, store=options.out / "measured")
        jpeg = {quality: measure([Task(item, "jpeg", quality) for item in items]) for quality in JPEG}
        rows = [Row(f"JPEG {q} % quality", JPEG[q], Means.of(results)) for q, results in jpeg.items()]
        for scheme in _schemes(options.steps, options.quick):
            tasks = [
                Task(item, scheme.codec or ours, target_bytes=found.bytes, options=scheme.options)
                for item, found in zip(items, jpeg[1], strict=True)
            ]
            results = measure(tasks, on_error=unmet)
            failed = results.count(None)
            mean = None if failed else Means.of([result for result in results if result is not None])
            rows.append(Row(scheme.name, scheme.published, mean, failed))
            print(f"{scheme.name}: {_line(rows[-1])[2:]}", flush=True)
    what = "whole pictures" if options.crop is None else f"central crops of {options.crop}×{options.crop}"
    sampled = (
        f"{options.steps} steps of sampling."
        if options.steps
        else "No sampling: the feed-forward networks alone."
    )
    lines = [
        f"# Ablative compression, {what}",
        f"{len(items)} pictures of {options.data}; means over pictures, whole files decoded in another process, every "
        "scheme within the bytes of each picture's JPEG of quality 1, losses' targets included; a row without figures "
        f"cannot be made that small on the pictures counted. {sampled} Published SSIM is of unnamed pictures and "
        "another SSIM, without rates.",
        table(["scheme", "published SSIM", "bpp", "SSIM", "PSNR, dB", "LPIPS"], [_line(row) for row in rows]),
        "\n".join(f"- {line}" for line in _findings(rows)),
    ]
    name = "table" if options.crop is None else f"table_{options.crop}"
    setting = {"data": options.data, "crop": options.crop, "steps": options.steps}
    record = setting | {"rows": [row._asdict() for row in rows]}
    save(options, name, "\n\n".join(lines), record)
    return 0


def _parser() -> argparse.ArgumentParser:
    found = parser("table", __doc__)
    found.add_argument("--crop", type=int, metavar="N", help="central squares of N pixels (published: 256)")
    found.add_argument(
        "--steps", type=int, default=0, metavar="N", help="of sampling (default: 0; published: 20)"
    )
    found.add_argument("--quick", action="store_true", help="leave out the search for the split of bytes")
    found.add_argument("--pairs", type=int, dest="devices", metavar="N", help="another name of --devices")
    return found


def _schemes(steps: int, quick: bool) -> Iterator[Scheme]:
    for scheme in (*PUBLISHED, *([FORERUNNER] if steps else []), *BESIDE, *([] if quick else SPLIT), AVIF):
        if "steps" not in scheme.options:
            yield scheme
        elif steps:
            yield scheme._replace(options={**scheme.options, "steps": steps})
        elif not scheme.options["assistants"]:  # whose losses are of sampling
            name = f"{scheme.name} (not sampled)"
            yield scheme._replace(name=name, options={**scheme.options, "steps": 0})


def _line(row: Row) -> list[str]:
    if row.mean is None:
        return [row.scheme, number(row.published, 3), f"too large on {row.failed}", "–", "–", "–"]
    m = row.mean
    figures = (number(m.bpp, 4), number(m.ssim, 4), number(m.psnr_rgb, 2), number(m.lpips_alex, 3))
    return [row.scheme, number(row.published, 3), *figures]


def _findings(rows: Sequence[Row]) -> list[str]:
    """What the publication found, found or refuted here; and the best scheme against JPEG."""
    means = {row.scheme: row.mean for row in rows if row.mean is not None}
    ssim = {
        scheme.replace(" (not sampled)", ""): mean.ssim
        for scheme, mean in means.items()
        if mean.ssim is not None
    }
    three, lines = ("Pixel sampling", "Block sampling", "Block+Random sampling"), []
    if all(name in ssim for name in three):
        pixel, block, both = (ssim[name] for name in three)
        lines.append(
            f"Pixel ({pixel:.4f}) < block ({block:.4f}) < block + random ({both:.4f}): "
            f"{'found' if pixel < block < both else 'refuted'}."
        )
    for base, short in (("Pixel sampling", "Pixel sampling"), ("Block+Random sampling", "B+R sampling")):
        for loss in ("style", "content", "edge"):
            name = f"{short} + {loss} loss"
            if name in ssim and base in ssim:
                gain = ssim[name] - ssim[base]
                lines.append(
                    f"{name} at equal bytes: {gain:+.4f} SSIM, {'a gain' if gain > 0 else 'no gain'}."
                )
    ours = [scheme for scheme in means if not scheme.startswith(("JPEG", "AVIF"))]
    best, jpeg = max(ours, key=lambda scheme: means[scheme].ssim or 0), means[rows[0].scheme]
    lines.append(
        f"Best scheme: {best}, SSIM {means[best].ssim:.4f} at {means[best].bpp:.4f} bpp, against JPEG's "
        f"{jpeg.ssim:.4f} at {jpeg.bpp:.4f}."
    )
    return lines
