"""Speed beside CompressAI's models, in one process on one machine.

::

    python -m eval.speed            # encoding and decoding, 768×512, by stage
    python -m eval.speed --many photos --only hyperprior jpeg       # 200 pictures of 256×256, through the commands
    python -m eval.speed --train    # the training step, alone and what two processes exchange
    python -m eval.speed --train --only hyperprior:mbt2018-mean mbt2018-mean --crop 128 --compile

``hyperprior:mbt2018-mean`` is the hyperprior at the widths of CompressAI's model. Prints medians, ratios and where a
training step's time goes, and writes all times with the machine's name to ``results/speed.json`` (or
``speed_train.json``, ``speed_many.json``).
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image as PillowImage
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from genic.eval import speed_coding
from genic.eval.provenance import provenance
from genic.eval.speed_coding import ANCHOR, BASELINES, OURS, Times, median
from genic.eval.tables import table as markdown
from genic.experiments.command import command, make_parser
from genic.experiments.config import presets
from genic.lightning_modules.codec.errors import DataError
from genic.lightning_modules.registry import papers

if TYPE_CHECKING:
    from genic.eval.speed_training import Communication, Parts

CODECS = (*OURS, *BASELINES)
TRAINED = "mbt2018-mean"  # by CompressAI's loop
Figure = tuple[str, Callable[[Times], float | None]]
ENCODING: tuple[Figure, ...] = (
    ("encode", lambda t: t.encode),
    ("transform", lambda t: t.transform),
    ("entropy coding", lambda t: t.entropy_encode),
    ("of it the coder", lambda t: t.encode_coder),
)
DECODING: tuple[Figure, ...] = (
    ("decode", lambda t: t.decode),
    ("entropy decoding", lambda t: t.entropy_decode),
    ("of it the coder", lambda t: t.decode_coder),
    ("pixel decoder", lambda t: t.pixels),
)


def photograph(width: int, height: int) -> np.ndarray:
    """uint8 height×width×3: a photograph that ships with scikit-learn, scaled."""
    from sklearn.datasets import load_sample_image

    image = PillowImage.fromarray(load_sample_image("china.jpg"))
    return np.array(image.resize((width, height), PillowImage.Resampling.BICUBIC))


def coding(args: argparse.Namespace, console: Console) -> dict:
    """Measure encoding and decoding, print the table, and return what is to be written."""
    chosen, notes = speed_coding.subjects(args.only)
    image = photograph(*args.size)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("measuring", total=len(chosen) * args.repeats)
        times = speed_coding.measure(chosen, image, args.repeats, lambda: progress.advance(task))
    width, height = args.size
    setting = f"{width}×{height}, {args.threads} threads, medians of {args.repeats}, ms"
    console.print(stage_table(times, ENCODING, f"Encoding: {setting}"))
    console.print(stage_table(times, DECODING, f"Decoding: {setting}"))
    anchor = times.get(ANCHOR)
    if anchor is not None:
        console.print(ratio_table(times, anchor))
    for note in notes:
        console.print(note)
    content = {name: [asdict(t) for t in found] for name, found in times.items()}
    return {"size": [width, height], "repeats": args.repeats, "notes": notes, "seconds": content}


def many(args: argparse.Namespace, console: Console) -> dict:
    """Measure pictures a second of the commands, print the table, and return what is to be written."""
    from genic.eval import speed_many

    codecs = args.only or ["hyperprior", "jpeg"]
    found = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("measuring", total=len(codecs) * len(speed_many.WAYS))
        found = speed_many.measure(
            codecs, args.many, args.pictures, args.crop, lambda: progress.advance(task)
        )
    header = ["codec", "", "compress, 1/s", "decompress, 1/s", "CPU ms each", "CPU ms each", "bytes"]
    rows = [
        [
            *(r.codec, r.way, f"{r.compress:.1f}", f"{r.decompress:.1f}"),
            *(f"{r.compress_ms:.0f}", f"{r.decompress_ms:.0f}", f"{r.bytes:,}"),
        ]
        for r in found
    ]
    console.print(markdown(header, rows, left=2))
    return {
        "pictures": args.pictures,
        "side": args.crop,
        "rates": [asdict(rates) for rates in found],
        "notes": [],
    }


def stage_table(times: dict[str, list[Times]], figures: Sequence[Figure], title: str) -> Table:
    """Medians in milliseconds."""
    table = _table(figures, title)
    for codec, found in times.items():
        values = [median(found, of) for _, of in figures]
        table.add_row(codec, *("–" if v is None else f"{1e3 * v:.1f}" for v in values))
    return table


def ratio_table(times: dict[str, list[Times]], anchor: list[Times]) -> Table:
    """How many times as fast as the anchor: medians of the ratios of each round."""
    figures = (ENCODING[0], DECODING[0], DECODING[1])
    table = _table(figures, f"Times as fast as {ANCHOR}")
    for codec, found in times.items():
        ratios = [
            statistics.median(_known(of(a)) / _known(of(t)) for a, t in zip(anchor, found, strict=True))
            for _, of in figures
        ]
        table.add_row(codec, *(f"{r:.1f}" for r in ratios))
    return table


def _known(seconds: float | None) -> float:
    assert seconds is not None, "every codec has these figures"
    return seconds


def _table(figures: Sequence[Figure], title: str) -> Table:
    table = Table(title=title)
    table.add_column("codec", no_wrap=True)
    for name, _ in figures:
        table.add_column(name, justify="right")
    return table


def training(args: argparse.Namespace, console: Console) -> dict:
    """Measure training steps, print the tables, and return what is to be written."""
    from genic.eval import speed_training
    from genic.experiments.run import quieten

    quieten()
    chosen = args.only or [
        name for name in _trainings() if name in (TRAINED, speed_training.EQUAL) or name.endswith(":small")
    ]
    rows, parts, exchanged, read, notes = {}, {}, {}, {}, []
    for bf16, compiled in itertools.product((False, True), (False, True) if args.compile else (False,)):
        for name in chosen:
            label = f"{name}, {'bf16' if bf16 else 'fp32'}{', compiled' if compiled else ''}"
            how = (args.crop, args.batch, args.repeats, bf16)
            try:
                if name != TRAINED:
                    rows[label], found = speed_training.ours(name, *how, compiled)
                elif not compiled:
                    rows[label], found = speed_training.compressai(*how)
                else:
                    continue
            except ImportError as error:
                notes.append(f"{label}: left out ({error})")
                continue
            if found is not None:
                parts[label] = found
    for name in chosen:
        if name != TRAINED:
            exchanged[name] = speed_training.communication(name, args.crop, args.batch, args.repeats)
            try:
                read[name] = speed_training.readers(name, args.repeats)
            except DataError as error:
                notes.append(f"{name}: readers left out ({error})")
    setting = f"{args.crop}×{args.crop}, batch {args.batch}, {args.threads} threads, {args.repeats} steps"
    console.print(step_table(rows, read, args.batch, setting))
    console.print(parts_table(parts, "Of a step's time, forward + backward"))
    if exchanged:
        console.print(communication_table(exchanged, f"Two processes, {args.batch} crops and a thread each"))
    console.print(*notes)
    return {
        "crop": args.crop,
        "batch": args.batch,
        "notes": notes,
        "seconds": rows,
        "parts": {label: asdict(found) for label, found in parts.items()},
        "reader_images_per_second": read,
        "communication": {name: asdict(found) for name, found in exchanged.items()},
    }


def step_table(rows: Mapping[str, list[float]], read: Mapping[str, float], batch: int, title: str) -> Table:
    """Speed of steps, beside CompressAI's in the same precision, and of one reader of the data, beside the step's."""
    table = Table("step", title=title)
    for column in ("images/s", "s/step", f"times {TRAINED}", "a reader's images/s", "times the step's"):
        table.add_column(column, justify="right")
    middle = {label: statistics.median(seconds) for label, seconds in rows.items()}
    for label, seconds in middle.items():
        name, precision = label.split(", ")[:2]
        anchor, reader = middle.get(f"{TRAINED}, {precision}"), read.get(name)
        more = ["–" if anchor is None else f"{anchor / seconds:.2f}"]
        more += ["–"] * 2 if reader is None else [f"{reader:.0f}", f"{reader * seconds / batch:.0f}"]
        table.add_row(label, f"{batch / seconds:.2f}", f"{seconds:.2f}", *more)
    return table


def parts_table(parts: Mapping[str, Parts], title: str) -> Table:
    """Shares in percent: each network, all losses, the optimisers; and convolutions, wherever they are."""
    table = Table("step", "networks", title=title)
    for column in ("losses", "optimisers", "convolutions"):
        table.add_column(column, justify="right")
    for label, p in parts.items():
        shares = [
            f"{name} {100 * forward / p.step:.0f} + {100 * backward / p.step:.0f}"
            for name, (forward, backward) in p.networks.items()
            if forward + backward >= 0.005 * p.step
        ]
        rest = (f"{100 * part / p.step:.0f}" for part in (p.losses, p.optimisers, p.convolutions))
        table.add_row(label, ", ".join(shares), *rest)
    return table


def communication_table(found: Mapping[str, Communication], title: str) -> Table:
    """What a step exchanges, by training."""
    table = Table("step", title=title)
    for column in ("MB/step", "calls/step", "ms exchanging", "ms/step"):
        table.add_column(column, justify="right")
    for name, c in found.items():
        figures = f"{c.bytes / 1e6:.2f}", str(c.calls), f"{c.milliseconds:.1f}", f"{c.step_milliseconds:.0f}"
        table.add_row(name, *figures)
    return table


def _trainings() -> tuple[str, ...]:
    from genic.eval.speed_training import EQUAL

    return (TRAINED, EQUAL, *(f"{paper}:{preset}" for paper in papers() for preset in presets(paper)))


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser("speed", __doc__, "eval")
    parser.add_argument("--train", action="store_true", help="measure the training step")
    parser.add_argument(
        "--many", type=Path, metavar="DIR", help="measure many pictures: crops of those in DIR"
    )
    parser.add_argument("--pictures", type=int, default=200, metavar="N", help="with --many: how many")
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="rounds or steps (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of torch (default: %(default)s)")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(768, 512), metavar=("W", "H"), help="of the picture"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        help=f"some of {', '.join(CODECS)}; with --train PAPER:PRESET; with --many any codecs",
    )
    parser.add_argument("--crop", type=int, default=256, metavar="PX", help="side of the crops")
    parser.add_argument("--compile", action="store_true", help="compiled networks, too, with --train")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="crops a step, with --train")
    parser.add_argument(
        "--out", type=Path, default=Path("results"), metavar="DIR", help="where the JSON goes"
    )
    args = parser.parse_args(arguments)
    if min(args.repeats, args.threads, *args.size, args.crop, args.batch, args.pictures) < 1:
        parser.error("numbers are at least 1")
    known = _trainings() if args.train else CODECS
    if not args.many and (unknown := sorted(set(args.only or ()) - set(known))):
        parser.error(f"--only {' '.join(unknown)}: there are {', '.join(known)}")
    warnings.filterwarnings("ignore", module="compressai")
    console, threads = Console(), torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        measure = many if args.many else training if args.train else coding
        found = measure(args, console)
    finally:
        torch.set_num_threads(threads)
    where = provenance(args.threads, processes=1)
    path = args.out / f"speed{'_many' if args.many else '_train' if args.train else ''}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"provenance": asdict(where), **found}, indent=1) + "\n")
    console.print(f"{where.machine}; {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
