"""Checkpoints for exact resumption: plain containers and tensors, which are all that loading accepts."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning.plugins.io import CheckpointIO

from genic.lightning_modules.codec.errors import ConfigError, WeightsError
from genic.lightning_modules.codec.files import atomic_file

CONFIG_KEY, PROCESSES_KEY = "genic_config", "genic_processes"


class SafeCheckpointIO(CheckpointIO):
    """Writes atomically; reads with ``weights_only``, so that no checkpoint can run code."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        _check_plain(checkpoint, "checkpoint")
        with atomic_file(path) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", **unused: Any) -> dict[str, Any]:
        return read_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's contents, on the CPU.

    Raises:
        WeightsError: missing, damaged, or holding anything but plain containers and tensors.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"no checkpoint at {path}: give a run's folder or its last.ckpt") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise WeightsError(
            f"{path} is damaged or holds more than tensors, and is not loaded ({reason}): "
            "give a last.ckpt that experiments.run wrote"
        ) from error


def batches_of(checkpoint: dict[str, Any], path: str | Path) -> int:
    """Number of training batches behind a checkpoint."""
    seen = checkpoint.get("batches_seen")
    if seen is None:
        raise WeightsError(f"{path} was not written by experiments.run: it has no count of batches")
    return seen


def check_same_model(checkpoint: dict[str, Any], config: str, path: str | Path) -> None:
    """Raise `ConfigError` unless the checkpoint's experiment and model configuration are ``config``'s.

    Args:
        config: a `RunConfig` as YAML. Other sections may differ, e.g. ``train.batches``.
    """
    if CONFIG_KEY not in checkpoint:
        raise WeightsError(f"{path} was not written by experiments.run: it has no configuration")
    saved, wanted = yaml.safe_load(checkpoint[CONFIG_KEY]), yaml.safe_load(config)
    if saved["experiment"] != wanted["experiment"]:
        raise ConfigError(f"{path} is of {saved['experiment']}, not {wanted['experiment']}")
    old, new = saved["model"], wanted["model"]
    differing = sorted(f"model.{key}" for key in {*old, *new} if old.get(key) != new.get(key))
    if differing:
        raise ConfigError(
            f"{path} is of another model: {', '.join(differing)} differ; give the values of the config.yaml "
            "beside it, or start a new run without --resume"
        )


def _check_plain(value: Any, where: str) -> None:
    """Fail at saving, where the cause is known, and not at loading."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(key, where)
            _check_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for k, item in enumerate(value):
            _check_plain(item, f"{where}[{k}]")
    elif type(value) not in (int, float, bool, str, type(None), torch.Tensor, torch.nn.Parameter):
        raise TypeError(
            f"{where} is a {type(value).__name__}: checkpoints hold plain values and tensors only"
        )
