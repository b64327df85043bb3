"""Whether results that are kept still hold: a part of them, measured anew."""

from __future__ import annotations

from collections.abc import Sequence

from genic.datamodules.images import ImageItem, manifest_hash
from genic.eval.metrics import available
from genic.eval.provenance import machine, versions
from genic.eval.runner import Task, WorkerPairs, measure_files
from genic.eval.schema import CodecResult, ImageResult
from genic.lightning_modules.codec.container import NO_WEIGHTS
from genic.lightning_modules.codec.errors import DataError
from genic.lightning_modules.registry import open_codec

TOLERANCE = {"psnr_rgb": 0.02, "ssim": 5e-4, "ms_ssim": 5e-4, "lpips_alex": 2e-3}
"""By which figures may differ: networks round otherwise on other machines."""
PICTURES = 2
"""As many of a data set are measured anew, the first ones, each at the middle one of a codec's points."""


def drift(
    results: Sequence[CodecResult], items: list[ImageItem], workers: WorkerPairs
) -> tuple[list[str], list[str]]:
    """Measure `PICTURES` anew, and compare.

    Args:
        results: of the codecs to look at.
        items: all pictures of their data set.

    Returns:
        What has drifted, a line each: weights or options, bytes with the same libraries, figures beyond `TOLERANCE`.
        And what is worth a word without being drift: bytes that differ with other libraries or on another machine.

    Raises:
        DataError: the pictures are others than those of the results.
    """
    problems, notes, tasks, expected = [], [], [], []
    for result in results:
        if result.manifest != manifest_hash(items):
            raise DataError(f"{result.codec} was measured on other pictures (manifest {result.manifest})")
        codec = open_codec(result.codec)
        weights = None if codec.weights_id == NO_WEIGHTS else codec.weights_id.hex()
        if (weights, codec.coding_options()) != (result.weights, result.options):
            problems.append(f"{result.codec}: weights or coding options are others: measure it again")
            continue
        point = result.points[len(result.points) // 2]
        kept = {image.name: image for image in point.images}
        for item in items[:PICTURES]:
            tasks.append(Task(item, result.codec, point.quality))
            expected.append((result, kept[item.name]))
    networks = available("lpips_alex")
    measured = measure_files(tasks, workers, networks=networks)
    for task, (result, old), new in zip(tasks, expected, measured, strict=True):
        what = f"{result.codec} at {task.quality:g}, {old.name}"
        if old.bytes != new.bytes:
            line = f"{what}: {new.bytes} bytes, kept {old.bytes}"
            if other := _other_versions(result):
                notes.append(f"{line} (other version: {other})")
            else:
                problems.append(line)
        problems += [f"{what}: {figure}" for figure in _differing(old, new)]
    return problems, notes


def _differing(old: ImageResult, new: ImageResult) -> list[str]:
    found = []
    for name, tolerance in TOLERANCE.items():
        before, now = getattr(old, name), getattr(new, name)
        if before is not None and now is not None and abs(now - before) > tolerance:
            found.append(f"{name} {now:.4f}, kept {before:.4f}")
    return found


def _other_versions(result: CodecResult) -> str:
    """What files depend on and has changed since the result, ``name old → new``; empty if nothing has."""
    then = {} if result.provenance is None else result.provenance.versions
    if result.provenance is not None:
        then = {**then, "machine": result.provenance.machine}
    now = {**versions(), "machine": machine()}
    changed = [name for name in sorted(then | now) if then.get(name) != now.get(name)]
    return ", ".join(f"{name} {then.get(name, '–')} → {now.get(name, '–')}" for name in changed)
