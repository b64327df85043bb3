"""Pack a data set's training part into tar shards (webdataset).

::

    python -m datamodules.pack imagenet -o DIR

A sample is ``<number>.image`` (the picture's file, byte for byte), ``<number>.<label>.png`` and
``<number>.name``. Pictures are shuffled once, here, so that neighbours in a shard are unrelated; unusable
ones are left out and counted. ``index.json``, written last, lists the shards and their numbers of samples.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import track

from genic.datamodules import DATASETS, make_datamodule
from genic.datamodules.batch import LABELS
from genic.datamodules.config import DataConfig
from genic.datamodules.shards import INDEX
from genic.experiments.command import command, make_parser
from genic.lightning_modules.codec.errors import ConfigError, DataError, ImageError, needs
from genic.lightning_modules.codec.files import write_atomic

with needs("train"):
    import webdataset as wds


def pack(config: DataConfig, out: Path, megabytes: float = 64) -> tuple[int, int]:
    """Write the shards.

    Args:
        config: the data set, its root, the wanted labels and the seed of the shuffle.
        out: an empty or new folder.
        megabytes: bound on a shard's size; a reader holds one shard in memory.

    Returns:
        Numbers of pictures written and of pictures left out.

    Raises:
        ConfigError: ``out`` holds something.
        DataError: no usable picture.
    """
    if config.name == "sample":
        raise ConfigError("the bundled pictures need no shards: pack another data set")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty: choose a new folder for the shards")
    datamodule = make_datamodule(config)
    items = datamodule.labelled(datamodule.items("train"))
    out.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    written = skipped = 0
    pattern = str(out / "%06d.tar")
    how = {"maxcount": 10**9, "maxsize": megabytes * 1e6, "verbose": 0, "mtime": 0.0}
    with wds.ShardWriter(pattern, **how) as writer:  # pyright: ignore[reportAttributeAccessIssue]  # lazy
        order = np.random.default_rng(config.seed).permutation(len(items))
        for k in track(order, description=f"packing {config.name}", disable=not sys.stderr.isatty()):
            item = items[k]
            try:
                item.read_sample(config.min_side)
            except (ImageError, DataError) as error:
                skipped += 1
                print(f"left out: {error}", file=sys.stderr)
                continue
            files = {f"{label}.png": Path(path).read_bytes() for label, path in item.labels.items()}
            picture = Path(item.path).read_bytes()
            key = f"{written:09d}"
            writer.write({"__key__": key, "image": picture, "name": item.name.encode(), **files})
            shard = Path(writer.fname).name
            counts[shard] = counts.get(shard, 0) + 1
            written += 1
    if not written:
        raise DataError(f"no usable picture in the training part of {config.name}")
    index = {
        "dataset": config.name,
        "shards": list(counts.items()),
        "labels": list(config.labels),
        "semantic_classes": datamodule.semantic_classes,
        "left_out": skipped,
    }
    write_atomic(out / INDEX, json.dumps(index, indent=1).encode())
    return written, skipped


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = make_parser("pack", __doc__, "datamodules")
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("-o", "--out", type=Path, required=True, help="new folder for the shards")
    parser.add_argument("--root", help="data root (default: $GENIC_DATA)")
    parser.add_argument("--labels", nargs="*", default=[], choices=LABELS, help="label maps to pack")
    parser.add_argument("--labels-root", help="folder of label maps searched first")
    parser.add_argument("--megabytes", type=float, default=64, help="bound on a shard's size (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="of the shuffle")
    a = parser.parse_args(arguments)
    config = DataConfig(
        name=a.dataset, root=a.root, labels=a.labels, labels_root=a.labels_root, seed=a.seed, shards=None
    )
    written, skipped = pack(config, a.out, a.megabytes)
    print(f"{written} pictures in {a.out}, {skipped} left out; train with data.shards={a.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
