"""The ablation: variants of the system, trained alike, measured on real files.

::

    python -m experiments.tables gdae_sprc ablation                          # trains four networks of preset small
    python -m experiments.tables gdae_sprc ablation --limit 4 preset=nano    # quickly, to see that it works

Every combination of dense connections (DC), GAN and residual compensation (SPRC), slide "Ablation analysis": four
networks, trained on the same samples from the same seed for the same number of batches, each measured with and without
its residual at one byte budget. Networks already trained below ``--runs`` are taken up again. With a residual the level
of the latents is fixed: a free choice may leave them out, and the table would say nothing of the networks.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from genic.datamodules.images import ImageItem
from genic.eval import tables
from genic.eval.runner import Task
from genic.eval.schema import Means
from genic.eval.tables import number
from genic.experiments.config import load_config
from genic.experiments.evaluate import pictures
from genic.experiments.paper_tables.gdae_sprc.common import measured, parser, save
from genic.experiments.run import train
from genic.experiments.training.devices import choose_devices

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
    off = [] if gan else ["train.adversarial_weight=0"]
    config = load_config(
        "gdae_sprc", [*settings, f"model.dense={str(dense).lower()}", "train.evaluate=null", *off]
    )
    name = "-".join(["ae", *(["dc"] if dense else []), *(["gan"] if gan else [])])
    run = train(config, out=runs / name, placement=choose_devices(), resume="auto", max_time=max_time)
    print(f"{name}: {run.batches} batches, {run.reason}, {run.folder}", flush=True)
    return run.folder


def measure_rows(
    options: argparse.Namespace, folders: Mapping[tuple[bool, bool], Path], items: Sequence[ImageItem]
) -> list[Row]:
    """Files of at most ``options.bpp`` bits per pixel of every variant.

    ``options.level`` is of the latents in files with a residual; those without take as many as fit.
    """
    tasks = []
    for dense, gan, sprc in PUBLISHED:
        codec = f"{'gdae_sprc' if sprc else 'gdae'}:{folders[dense, gan]}"
        how = {"level": options.level} if sprc else {}
        tasks += [Task(item, codec, target_bpp=options.bpp, options=how) for item in items]
    results, n = measured(options, tasks), len(items)
    return [Row(*parts, Means.of(results[k * n : (k + 1) * n])) for k, parts in enumerate(PUBLISHED)]


def table(rows: Sequence[Row]) -> str:
    """Markdown, in the slides' order, their values in brackets."""
    lines = []
    for row in rows:
        m, (psnr, ms_ssim, _) = row.mean, PUBLISHED[row.parts]
        both = f"{m.psnr_rgb:.2f} ({psnr})", f"{number(m.ms_ssim_db, 2)} ({ms_ssim})"
        seconds = number(m.encode_seconds, 2), number(m.decode_seconds, 2)
        lines.append(["✓", *("✓" if part else "" for part in row.parts), number(m.bpp, 3), *both, *seconds])
    header = ["AE", "DC", "GAN", "SPRC", "bpp", "PSNR, dB", "MS-SSIM, dB", "encode, s", "decode, s"]
    return tables.table(header, lines)


def findings(rows: Sequence[Row], published_losses: bool) -> list[str]:
    """For each published ordering of two rows that differ in one part, whether PSNR and MS-SSIM show it, too.

    With other loss weights than the slides' a pair with and without GAN is no test of theirs, and says so.
    """
    by_parts = {row.parts: row for row in rows}
    lines = []
    for part, label in enumerate(("DC", "GAN", "SPRC")):
        for parts, with_it in by_parts.items():
            dense, gan, sprc = (on and k != part for k, on in enumerate(parts))
            without = by_parts.get((dense, gan, sprc))
            if not parts[part] or without is None:
                continue
            verdicts = []
            for metric, attribute in (("PSNR", "psnr_rgb"), ("MS-SSIM", "ms_ssim_db")):
                a, b = getattr(without.mean, attribute), getattr(with_it.mean, attribute)
                if a is not None and b is not None:
                    verdicts.append(f"{metric} {'found' if a < b else 'not found'} ({b - a:+.2f} dB)")
            untested = label == "GAN" and not published_losses
            note = "; no test of the slides, whose weights are 10 : 5 : 2" if untested else ""
            lines.append(f"{label}: {without.name} < {with_it.name}: {', '.join(verdicts)}{note}")
    return lines


def main(arguments: Sequence[str]) -> int:
    """The command line after ``experiments.tables gdae_sprc ablation``; returns the exit status."""
    options = _parser().parse_args(arguments)
    max_time = None if options.minutes is None else timedelta(minutes=options.minutes)
    data, items = pictures(options.data, options.root, options.limit)
    folders = {
        (dense, gan): train_variant(dense, gan, options.settings, options.runs, max_time)
        for dense in (False, True)
        for gan in (False, True)
    }
    rows = measure_rows(options, folders, items)
    losses = load_config("gdae_sprc", options.settings).train
    weights = losses.mse_weight, losses.adversarial_weight, losses.ssim_weight
    head = (
        f"Ablation of GDAE + SPRC on {data}, files of at most {options.bpp} bpp, with SPRC latents of level "
        f"{options.level:g}; the slides' values in brackets. Losses MSE : GAN : SSIM "
        f"{' : '.join(f'{weight:g}' for weight in weights)}."
    )
    shown = "\n".join(f"- {line}" for line in findings(rows, weights == (10, 5, 2)))
    setting = {"bpp": options.bpp, "level": options.level, "settings": options.settings}
    save(options, data, "ablation", f"{head}\n\n{table(rows)}\n\n{shown}", {**setting, "rows": rows})
    return 0


def _parser() -> argparse.ArgumentParser:
    found = parser("ablation", __doc__)
    found.add_argument("settings", nargs="*", metavar="key=value", help="of every training, e.g. preset=nano")
    found.add_argument("--bpp", type=float, default=0.5, help="the budget (default: 0.5)")
    found.add_argument(
        "--level", type=float, default=1.0, help="of the latents beside a residual (default: 1)"
    )
    found.add_argument("--minutes", type=float, metavar="M", help="of training a network, at most")
    found.add_argument("--runs", type=Path, default=Path("runs/ablation"), metavar="DIR")
    return found
