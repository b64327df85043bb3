"""Weights & Biases: what a training run, `evaluate`, `rd_curves` and `tables` show there, by names that all share.

``rd/DATA/MEASURE`` is a chart of rate-distortion curves, the run's own and the classical anchors, which overlays those
of all runs on show; ``rd/DATA/table`` has the figures, ``pictures/DATA`` a row a picture with thumbnails. The summary
has ``bd_rate/MEASURE`` in percent against HEVC, ``parameters/NETWORK`` and ``macs_per_pixel/system``. Data sets'
manifests, weights and results are artifacts.

W&B's environment holds: ``WANDB_PROJECT`` (by default `PROJECT`), ``WANDB_NAME`` (by default the run's own name),
``WANDB_MODE`` (by default online with an account, else offline), and the rest.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from pydantic_core import to_jsonable_python

from genic.datamodules.images import ImageItem
from genic.eval.bjontegaard_delta import bd_rate
from genic.eval.curves import Curve
from genic.eval.measures import MEASURES
from genic.eval.runner import Task
from genic.eval.schema import CodecResult, Means
from genic.lightning_modules.codec.errors import needs
from genic.lightning_modules.codec.files import write_atomic

if TYPE_CHECKING:
    import wandb

PROJECT = "genic"
CHARTED = tuple(m for m in MEASURES if m.key in ("psnr_rgb", "ms_ssim_db", "lpips_alex"))
HEVC = ("hevc", "BPG 4:4:4 (x265)", "BPG (as DiffEIC measured it)")
"""What BD-rates are against, the first that there is: measured, else published (BPG is HEVC's intra coding)."""
CLASSICAL = (
    *HEVC,
    "jpeg",
    "jpeg2000",
    "webp",
    "avif",
    "jxl",
    "VTM 9.1 intra 4:4:4",
    "VTM (as DiffEIC measured it)",
)
THUMBNAIL = 192


def settings(folder: Path, name: str, first: bool = True) -> dict[str, Any]:
    """What all runs give `wandb.init`: files below ``folder``, which the ``first`` of a run's processes makes.

    Raises:
        ToolError: W&B is not there.
    """
    with needs("wandb"):
        import wandb
    mode = os.environ.get("WANDB_MODE")
    if not mode and not wandb.login(prompt=False, verify=False):
        mode = "offline"
    if first:
        folder.mkdir(parents=True, exist_ok=True)
    return {
        "project": os.environ.get("WANDB_PROJECT") or PROJECT,
        "name": os.environ.get("WANDB_NAME") or name,
        "dir": str(folder),
        "mode": mode,
        "settings": wandb.Settings(quiet=True),
    }


def identity(folder: Path, first: bool) -> str:
    """Of a training run, kept in its folder, so that a resumed one goes on where it was; written by the ``first``."""
    stored = folder / "wandb.id"
    found = stored.read_text().strip() if stored.is_file() else secrets.token_hex(4)
    if first:
        write_atomic(stored, found.encode())
    return found


@contextmanager
def opened(kind: str, folder: Path, name: str, config: Mapping[str, Any]) -> Iterator[wandb.Run]:
    """A W&B run of a command, of job type ``kind``."""
    started = settings(folder, name)
    import wandb

    run = wandb.init(**started, job_type=kind, config=dict(config), reinit="create_new")
    try:
        yield run
    finally:
        finish(run, folder)


def finish(run: wandb.Run, folder: Path) -> None:
    """Flush, and say how an offline run gets online."""
    run.finish()
    if run.offline:
        parts = sorted(map(str, (folder / "wandb").glob(f"offline-run-*-{run.id}")))
        print(f"Weights & Biases is offline; to upload the run:\n    wandb sync {' '.join(parts)}")


def log_curves(run: wandb.Run, data: str, curves: Sequence[Curve], own: Curve | None = None) -> None:
    """Charts of a data set's curves, and in the summary BD-rates of ``own`` against HEVC.

    Where there is no HEVC curve, or no overlap with it, the summary says so under another name.
    """
    import wandb

    for measure in CHARTED:
        drawn = [curve for curve in curves if measure.key in curve.points]
        if drawn:
            rates, values = zip(*(curve.points[measure.key].T.tolist() for curve in drawn), strict=True)
            keys, title = [curve.name for curve in drawn], f"{data}: {measure.title}"
            chart = wandb.plot.line_series(rates, values, keys, title, "bits per pixel")
            _log(run, {f"rd/{data}/{measure.key}": chart})
    by_name = {curve.name: curve for curve in curves}
    anchor = next((by_name[name] for name in HEVC if name in by_name), None)
    if own is None:
        return
    run.summary["bd_rate/against"] = "no curve of HEVC on these pictures" if anchor is None else anchor.name
    if anchor is None or anchor is own:
        return
    for measure in CHARTED:
        found = bd_rate(anchor, own, measure)
        if found.value is None:
            run.summary[f"bd_rate_refused/{measure.key}"] = found.refused
        else:
            run.summary[f"bd_rate/{measure.key}"] = found.value


def log_result(
    run: wandb.Run,
    result: CodecResult,
    anchors: Sequence[Curve],
    own: Curve,
    items: Sequence[ImageItem],
    saved: Path,
) -> None:
    """A codec's result on a data set: charts, tables, the artifact.

    Args:
        anchors: of the same pictures; classical ones are drawn.
        own: the result's curve, by the name that it has in charts.
        items: the pictures. saved: where `eval.runner.measure_files` kept the decoded ones.
    """
    import wandb

    classical = [curve for curve in anchors if curve.name in CLASSICAL and curve.name != own.name]
    log_curves(run, result.data, [own, *classical], own)
    figures = [field.name for field in dataclasses.fields(Means)]
    rows: list[Any] = [
        [point.label, *(getattr(point.mean, name) for name in figures)] for point in result.points
    ]
    shown = ("bytes", "bpp", "psnr_rgb", "ms_ssim_db", "lpips_alex")
    pictures = wandb.Table(columns=["picture", "quality", "original", "decoded", *shown])
    originals = {item.name: item for item in items}
    for point in result.points:
        for image in point.images:
            item = originals[image.name]
            path = Task(item, result.codec, point.quality, target_bpp=point.target_bpp).saved(saved)
            thumbnails = (_thumbnail(Image.fromarray(item.read())), _thumbnail(Image.open(path)))
            pictures.add_data(image.name, point.label, *thumbnails, *(getattr(image, name) for name in shown))
    _log(
        run,
        {
            f"rd/{result.data}/table": wandb.Table(columns=["quality", *figures], data=rows),
            f"pictures/{result.data}": pictures,
        },
    )
    about = {"codec": result.codec, "weights": result.weights, "manifest": result.manifest}
    artifact = wandb.Artifact(_name(f"results-{own.name}-{result.data}"), "results", metadata=about)
    with artifact.new_file("result.json") as file:
        file.write(result.to_json())
    run.log_artifact(artifact)


def log_data(run: wandb.Run, data: str, about: Mapping[str, Any], items: Sequence[ImageItem]) -> None:
    """A data set's manifest, an input of the run: each picture's SHA-256, and what else is told ``about`` it."""
    import wandb

    artifact = wandb.Artifact(_name(f"data-{data}"), "dataset", metadata=dict(about))
    with artifact.new_file("manifest.json") as file:
        json.dump({**about, "pictures": {item.name: item.digest for item in items}}, file, indent=1)
    _use(run, artifact)


def log_weights(run: wandb.Run, name: str, path: Path, about: Mapping[str, Any], made: bool) -> None:
    """A weights file, ``made`` by this run or else an input of it; the same content is the same artifact in both."""
    import wandb

    artifact = wandb.Artifact(_name(f"weights-{name}"), "model", metadata=dict(about))
    artifact.add_file(str(path), "weights.safetensors")
    run.log_artifact(artifact) if made else _use(run, artifact)


def log_record(run: wandb.Run, name: str, text: str, record: Mapping[str, Any]) -> None:
    """A publication's table: each list of rows in ``record`` as a table, and the page as an artifact."""
    import wandb

    plain = to_jsonable_python(dict(record), fallback=str)
    for key, rows in plain.items():
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
            columns = list(dict.fromkeys(column for row in rows for column in row))
            cells: list[Any] = [[_cell(row.get(column)) for column in columns] for row in rows]
            _log(
                run,
                {f"tables/{name}/{key}": wandb.Table(columns=columns, data=cells, allow_mixed_types=True)},
            )
    artifact = wandb.Artifact(_name(f"table-{name}"), "table")
    with artifact.new_file("table.md") as file:
        file.write(text)
    run.log_artifact(artifact)


def log_figure(run: wandb.Run, name: str, path: Path) -> None:
    """A publication's figure."""
    import wandb

    _log(run, {f"tables/{name}": wandb.Image(str(path))})


def _log(run: wandb.Run, values: dict[str, Any]) -> None:
    # At the last batch: a step of its own would be in the way of the next batch of a run that is lengthened.
    run.log(values, step=run.step)


def _use(run: wandb.Run, artifact: wandb.Artifact) -> None:
    # W&B declares inputs online only; an offline run has them among its outputs.
    run.log_artifact(artifact) if run.offline else run.use_artifact(artifact)


def _thumbnail(picture: Image.Image) -> wandb.Image:
    import wandb

    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return wandb.Image(picture, file_type="jpg")


def _cell(value: object) -> object:
    return json.dumps(value) if isinstance(value, dict | list) else value


def _name(text: str) -> str:
    """As an artifact's name may be."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text)[:128]
