"""Fixtures on the toy experiment: ``toy`` registers it, ``whole`` is a run of it."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def toy(monkeypatch):
    """The toy is an experiment for one test."""
    register(monkeypatch)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """An uninterrupted run of six batches."""
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        return run_toy(tmp_path_factory.mktemp("runs"))


def run_toy(out: Path, *settings: str, **options):
    """Train the toy in this process."""
    from genic.experiments.config import load_config
    from genic.experiments.run import train
    from genic.experiments.training.devices import Placement

    config = load_config("toy", ["preset=nano", *settings])
    return train(config, out=out, placement=Placement("cpu", 1), **options)


def register(patch: pytest.MonkeyPatch) -> None:
    """Make the toy an experiment until the patch is undone."""
    from genic.experiments import config
    from genic.lightning_modules import registry
    from tests import toy_experiment

    patch.setattr(config, "PRESETS", config.PRESETS)  # restored after the test, as is the registry
    patch.setitem(registry.PAPERS, "toy", None)
    toy_experiment.install()
