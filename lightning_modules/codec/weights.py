"""Weights as files: float16 safetensors that a codec is rebuilt from, found by name, path or identity.

A file holds the tensors that encoding and decoding need and, as metadata, the model's configuration as
JSON, so that nothing else is needed. Floating-point tensors are stored as float16; integer tensors (entropy
tables, exact networks) are stored as they are. The identity is what a compressed picture names: it depends
on the tensors and the model's configuration, and on nothing else of the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from genic.lightning_modules.codec.errors import WeightsError
from genic.lightning_modules.codec.files import write_atomic

MODULES = Path(__file__).resolve().parent.parent
MAX_FILE_BYTES = 10_000_000
"""Bound on one shipped file; all of them together have `MAX_TOTAL_BYTES`."""
MAX_TOTAL_BYTES = 45_000_000


def save_weights(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Write ``tensors`` atomically: floating point as float16, the rest unchanged.

    Args:
        path: the file; its folder is created.
        tensors: by name, any shape and device.
        metadata: strings; ``paper`` (the package's name) and ``config`` (the model's configuration as JSON)
            are required, since a codec is rebuilt from them.

    Returns:
        The 4-byte identity of what was written.

    Raises:
        WeightsError: a value is not finite in float16, or the metadata lacks a key or is no JSON.
    """
    _check_metadata(metadata, Path(path))
    stored, _ = round_trip(tensors, metadata)
    write_atomic(path, _sorted_header(save(stored, dict(metadata))))
    return weights_identity(stored, metadata)


def as_stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as a file would give them back; `WeightsError` where float16 cannot hold a value."""
    return {name: _to_stored(name, tensor) for name, tensor in tensors.items()}


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (as stored: float16 or integers, on the CPU) and metadata of a file.

    Raises:
        WeightsError: no such file, not safetensors, damaged, or without the metadata that a codec needs.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights at {path}: give a file, a run's folder or a preset's name")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({error}); checkpoints of other kinds are not read: "
            "give the last.safetensors beside it"
        ) from error
    _check_metadata(metadata, path)
    return tensors, metadata


def round_trip(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What `load_weights` would give after `save_weights`, without a file."""
    return {name: _to_stored(name, tensor) for name, tensor in tensors.items()}, dict(metadata)


def weights_identity(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """First 4 bytes of the SHA-256 over the configuration and, sorted by name, each tensor's name, dtype,
    shape and bytes. Tensors are taken as stored (`load_weights`), little-endian."""
    digest = hashlib.sha256()
    # Parsed and dumped again, so that spaces and the order of keys do not matter.
    config = json.dumps(json.loads(metadata["config"]), sort_keys=True)
    digest.update(f"{metadata['paper']}\n{config}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\n{tensor.dtype}\n{list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()[:4]


def find_weights(paper: str, which: str | bytes | Path, package: Path | None = None) -> Path:
    """The file of ``paper``'s weights.

    Args:
        paper: the paper's name, which its weights bear; by default its package's under ``lightning_modules``.
        package: folder of a paper that lies elsewhere; shipped weights are in ``weights`` below it.
        which: a preset's name, a path (of a file, or of a run's folder, meaning its ``last.safetensors``), or
            the 4-byte identity found in a compressed picture. Text is a path where it has a separator or a
            suffix, and a preset's name otherwise, whatever the working directory holds. An identity is looked for
            among the shipped weights and in the folders that the environment variable ``GENIC_WEIGHTS`` names.

    Raises:
        WeightsError: there is none; the message says how to get it.
    """
    folder = _shipped(paper, package)
    if isinstance(which, bytes):
        return _find_by_identity(paper, which, folder)
    path = Path(which)
    if isinstance(which, Path) or path.suffix or any(sign in which for sign in (os.sep, os.altsep) if sign):
        path = path / "last.safetensors" if path.is_dir() else path
        if path.is_file():
            return path
        raise WeightsError(f"no weights at {which}: give a .safetensors file or the folder of a run")
    shipped = folder / f"{which}.safetensors"
    if shipped.is_file():
        return shipped
    there = ", ".join(shipped_presets(paper, package)) or "none"
    beside = (
        f"; the {'folder' if path.is_dir() else 'file'} of that name here is ./{which}"
        if path.exists()
        else ""
    )
    raise WeightsError(
        f"{paper} ships no weights {which!r} (there: {there}{beside}). Train them with\n"
        f"    python -m experiments.run {paper} preset={which}\n"
        f"and give the run's folder: {paper}:runs/{paper}/{which}"
    )


def shipped_presets(paper: str, package: Path | None = None) -> list[str]:
    """Names of the weights that come with a paper, sorted; see `find_weights`."""
    return sorted(file.stem for file in _shipped(paper, package).glob("*.safetensors"))


def shipped_weights() -> list[Path]:
    """Every weights file in the repository, sorted."""
    return sorted(MODULES.glob("*/weights/*.safetensors"))


def _shipped(paper: str, package: Path | None) -> Path:
    folder = MODULES / paper / "weights"
    return folder if package is None or folder.is_dir() else package / "weights"


def _sorted_header(data: bytes) -> bytes:
    """A safetensors file whose header is in the order of names, so that equal contents are equal bytes."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _to_stored(name: str, tensor: Tensor) -> Tensor:
    # A copy, since tensors that share storage are refused by safetensors.
    tensor = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    if not torch.isfinite(half).all():
        largest = tensor.abs().max().item()
        raise WeightsError(
            f"{name} has values that float16 cannot hold (up to {largest:g}): training diverged"
        )
    return half


def _check_metadata(metadata: Mapping[str, str], path: Path) -> None:
    missing = [key for key in ("paper", "config") if key not in metadata]
    if missing:
        raise WeightsError(f"{path} lacks the metadata {' and '.join(missing)}: it was not written by genic")
    try:
        json.loads(metadata["config"])
    except json.JSONDecodeError as error:
        raise WeightsError(f"{path}: the metadata 'config' is not JSON ({error})") from error


def _find_by_identity(paper: str, identity: bytes, shipped: Path) -> Path:
    for path in _candidates(shipped):
        stat = path.stat()
        if _identity_of(path, stat.st_mtime_ns, stat.st_size) == (paper, identity):
            return path
    raise WeightsError(
        f"the file needs weights {identity.hex()} of {paper}, which are neither shipped nor in the folders "
        "of GENIC_WEIGHTS: give them (--weights PATH) or name their folder there"
    )


def _candidates(shipped: Path) -> Iterator[Path]:
    yield from sorted(shipped.glob("*.safetensors"))
    for folder in filter(None, os.environ.get("GENIC_WEIGHTS", "").split(os.pathsep)):
        yield from sorted(Path(folder).rglob("*.safetensors"))


@lru_cache(maxsize=1024)
def _identity_of(path: Path, mtime_ns: int, size: int) -> tuple[str, bytes] | None:
    """Paper and identity of a file; None where a folder of the user's holds some other file."""
    del mtime_ns, size  # part of the cache's key only
    try:
        tensors, metadata = load_weights(path)
    except WeightsError:
        return None
    return metadata["paper"], weights_identity(tensors, metadata)
