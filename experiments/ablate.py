"""Ablation tables: variants of a paper's system, trained alike, measured on real files.

::

    python -m experiments.ablate gdae_sprc                              # trains four networks of preset small
    python -m experiments.ablate gdae_sprc --limit 4 preset=nano        # quickly, to see that it works

Every combination of dense connections (DC), GAN and residual compensation (SPRC), slide "Ablation analysis": four
networks, trained on the same samples from the same seed for the same number of batches, each measured with and without
its residual at one byte budget. Networks already trained below ``--runs`` are taken up again. With a residual the level
of the latents is fixed: a free choice may leave them out, and the table would say nothing of the networks.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from datamodules.images import ImageItem, write_atomic
from eval import worker
from eval.metrics import measure
from eval.provenance import provenance
from eval.schema import ImageResult, Means
from experiments.config import load_config
from experiments.evaluate import pictures
from experiments.run import train
from experiments.training.devices import choose_devices
from lightning_modules.codec.container import Container
from lightning_modules.codec.contract import bits_per_pixel
from lightning_modules.codec.errors import GenicError
from lightning_modules.registry import open_codec

# (DC, GAN, SPRC): PSNR, MS-SSIM in dB, run time in ms, as the slides print them.
PUBLISHED = {
    (False, False, False): (27.37, 16.91, 426),
    (True, False, False): (29.24, 17.07, 532),
    (True, True, False): (32.65, 17.96, 532),
    (True, False, True): (32.47, 18.66, 863),
    (False, True, False): (30.77, 18.21, 426),
    (False, False, True): (30.92, 18.28, 752),
    (False, True, True): (31.27, 18.94, 752),
    (True, True, True): (33.77, 19.24, 863),
}


@dataclass(frozen=True)
class Row:
    """One variant: which parts it has, and its means over the pictures."""

    dense: bool
    gan: bool
    sprc: bool
    mean: Means

    @property
    def parts(self) -> tuple[bool, bool, bool]:
        return self.dense, self.gan, self.sprc

    @property
    def name(self) -> str:
        shown = zip(("DC", "GAN", "SPRC"), self.parts, strict=True)
        return "+".join(["AE", *(label for label, on in shown if on)])


def train_variant(
    dense: bool, gan: bool, settings: Sequence[str], runs: Path, max_time: timedelta | None = None
) -> Path:
    """The run's folder of one network; trained to its end unless it is already, or out of time."""
    off = [] if gan else ["model.lambda_gan=0"]
    config = load_config(
        "gdae_sprc", [*settings, f"model.dense={str(dense).lower()}", "train.evaluate=null", *off]
    )
    name = "-".join(["ae", *(["dc"] if dense else []), *(["gan"] if gan else [])])
    run = train(config, out=runs / name, placement=choose_devices(), resume="auto", max_time=max_time)
    print(f"{name}: {run.batches} batches, {run.reason}, {run.folder}", flush=True)
    return run.folder


def measure_row(
    parts: tuple[bool, bool, bool],
    folder: Path,
    items: Sequence[ImageItem],
    bpp: float,
    level: float,
    threads: int,
    decoder: Executor,
) -> Row:
    """Files of at most ``bpp`` bits per pixel, decoded in the other process ``decoder``.

    ``level`` is of the latents in files with a residual; those without take as many as fit.
    """
    choice = {"target_bpp": bpp} | ({"level": level} if parts[2] else {})
    codec = f"{'gdae_sprc' if parts[2] else 'gdae'}:{folder}"
    return Row(*parts, Means.of(measure_files(codec, items, choice, threads, decoder)))


def measure_files(
    codec: str, items: Sequence[ImageItem], choice: Mapping[str, float], threads: int, decoder: Executor
) -> list[ImageResult]:
    """Files written here with the options ``choice`` of `encode`, decoded in the other process ``decoder``."""
    encoder, results = open_codec(codec), []
    decoder.submit(worker.start, codec, None, threads).result()
    for item in items:
        image = item.read()
        begin = time.perf_counter()
        data = encoder.encode(image, **choice)
        seconds = time.perf_counter() - begin
        decoded, decode_seconds = decoder.submit(worker.decode, data).result()
        results.append(
            ImageResult(
                item.name,
                len(data),
                bits_per_pixel(data, image),
                Container.from_bytes(data).ledger(),
                **measure(image, decoded)._asdict(),
                encode_seconds=seconds,
                decode_seconds=decode_seconds,
            )
        )
    return results


def table(rows: Sequence[Row]) -> str:
    """Markdown, in the slides' order, their values in brackets."""
    lines = [
        "| AE | DC | GAN | SPRC | bpp | PSNR, dB | MS-SSIM, dB | encode, s | decode, s |",
        "|---|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        psnr, ms_ssim, _ = PUBLISHED[row.parts]
        ticks = " | ".join("✓" if part else "" for part in row.parts)
        m = row.mean
        similarity = "–" if m.ms_ssim_db is None else f"{m.ms_ssim_db:.2f}"
        lines.append(
            f"| ✓ | {ticks} | {m.bpp:.3f} | {m.psnr_rgb:.2f} ({psnr}) | {similarity} ({ms_ssim}) "
            f"| {m.encode_seconds:.2f} | {m.decode_seconds:.2f} |"
        )
    return "\n".join(lines)


def findings(rows: Sequence[Row]) -> list[str]:
    """For each published ordering of two rows that differ in one part, whether PSNR and MS-SSIM show it, too."""
    by_parts = {row.parts: row for row in rows}
    lines = []
    for part, label in enumerate(("DC", "GAN", "SPRC")):
        for parts, with_it in by_parts.items():
            without = by_parts.get(tuple(on and k != part for k, on in enumerate(parts)))
            if not parts[part] or without is None:
                continue
            verdicts = []
            for metric, attribute in (("PSNR", "psnr_rgb"), ("MS-SSIM", "ms_ssim_db")):
                a, b = getattr(without.mean, attribute), getattr(with_it.mean, attribute)
                if a is not None and b is not None:
                    verdicts.append(f"{metric} {'found' if a < b else 'refuted'} ({b - a:+.2f} dB)")
            lines.append(f"{label}: {without.name} < {with_it.name}: {', '.join(verdicts)}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    max_time = None if options.minutes is None else timedelta(minutes=options.minutes)
    try:
        data, items = pictures(options.data, options.root, options.limit)
        folders = {
            (dense, gan): train_variant(dense, gan, options.settings, options.runs, max_time)
            for dense in (False, True)
            for gan in (False, True)
        }
        rows = []
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as decoder:
            for parts in PUBLISHED:
                row = measure_row(
                    parts, folders[parts[:2]], items, options.bpp, options.level, options.threads, decoder
                )
                print(f"{row.name}: {row.mean.bpp:.3f} bpp, {row.mean.psnr_rgb:.2f} dB", flush=True)
                rows.append(row)
    except GenicError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    head = (
        f"Ablation of GDAE + SPRC on {data}, files of at most {options.bpp} bpp, with SPRC latents of level "
        f"{options.level:g}; the slides' values in brackets."
    )
    text = "\n\n".join([head, table(rows), "\n".join(f"- {line}" for line in findings(rows))])
    record = {
        "data": data,
        "bpp": options.bpp,
        "level": options.level,
        "settings": options.settings,
        "rows": [asdict(row) for row in rows],
        "provenance": asdict(provenance(options.threads, 1)),
    }
    path = options.out / data / "ablation_gdae_sprc"
    write_atomic(path.with_suffix(".md"), text.encode() + b"\n")
    write_atomic(path.with_suffix(".json"), json.dumps(record, indent=1).encode() + b"\n")
    print(f"{text}\n\n{path}.md")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.ablate", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("paper", choices=["gdae_sprc"])
    parser.add_argument(
        "settings", nargs="*", metavar="key=value", help="of every training, e.g. preset=nano"
    )
    parser.add_argument("--bpp", type=float, default=0.5, help="the budget (default: 0.5)")
    parser.add_argument(
        "--level", type=float, default=1.0, help="of the latents beside a residual (default: 1)"
    )
    parser.add_argument("--data", default="kodak", help="data set to measure on (default: kodak)")
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets (default: $GENIC_DATA)")
    parser.add_argument("--limit", type=int, metavar="K", help="the first K pictures only")
    parser.add_argument("--minutes", type=float, metavar="M", help="of training a network, at most")
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="of the decoding process")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"), metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
