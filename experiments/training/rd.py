"""The rate-distortion result of a run's weights: real files, as `experiments.evaluate` measures them."""

from __future__ import annotations

from dataclasses import astuple, fields
from pathlib import Path

from pytorch_lightning.loggers import WandbLogger

from datamodules.images import ImageItem, manifest_hash
from eval.provenance import provenance
from eval.runner import codec_result, evaluate
from eval.schema import CodecResult, Means
from lightning_modules.registry import open_codec


def measure_weights(codec: str, data: str, items: list[ImageItem], path: Path) -> CodecResult:
    """Measure a codec at all its qualities and save the result.

    Args:
        codec: for `open_codec`, e.g. ``selective_detail:runs/selective_detail/small/last.safetensors``.
        data: name of the data set; ``items`` are its pictures.
        path: of the JSON file.
    """
    opened = open_codec(codec)
    points = evaluate(codec, items, list(opened.qualities))
    result = codec_result(codec, opened, data, manifest_hash(items), points, provenance(1, 1), {})
    result.save(path)
    return result


def log_table(logger: WandbLogger, result: CodecResult) -> None:
    """The means of each quality as a table in Weights & Biases."""
    columns = ["quality", *(field.name for field in fields(Means))]
    rows = [[point.quality, *astuple(point.mean)] for point in result.points]
    logger.log_table(f"rd/{result.data}", columns=columns, data=rows)
