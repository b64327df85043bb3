"""Speed of a training step: ours in Lightning, and CompressAI's own loop for `mbt2018-mean`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from genic.datamodules.batch import Batch
from genic.experiments.config import load_config
from genic.experiments.training.precision import lightning_precision
from genic.lightning_modules.registry import find_paper

BASELINE = "mbt2018-mean"
QUALITY = 4
LAMBDA = 0.013


def ours(preset: str, side: int, batch: int, steps: int, bf16: bool) -> list[float]:
    """Seconds of each of ``steps`` steps of our `preset`, every loss and network in use from the first batch."""
    overrides = ["train.adversarial_from=0", "train.detail_from=0"]
    config = load_config("selective_detail", [f"preset={preset}", *overrides])
    module = find_paper("selective_detail").module_class()(config.paper())
    if bf16:
        module.to(memory_format=torch.channels_last)
    timer = _Timer()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        precision=lightning_precision("bf16" if bf16 else "32", "cpu"),
        max_epochs=1,
        limit_train_batches=steps + 1,
        callbacks=[timer],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(_Same(_batch(side, batch), steps + 1), batch_size=None))
    return timer.seconds[1:]


def compressai(side: int, batch: int, steps: int, bf16: bool) -> list[float]:
    """The same for CompressAI's model, as its examples/train.py steps; `ImportError` where it is not installed."""
    from compressai.losses import RateDistortionLoss
    from compressai.optimizers import net_aux_optimizer
    from compressai.zoo import image_models

    torch.manual_seed(0)
    net: Any = image_models[BASELINE](quality=QUALITY, pretrained=False).train()
    criterion = RateDistortionLoss(lmbda=LAMBDA)
    rates = {kind: {"type": "Adam", "lr": lr} for kind, lr in (("net", 1e-4), ("aux", 1e-3))}
    optimisers = net_aux_optimizer(net, rates)
    x = _batch(side, batch).image
    if bf16:
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        for optimiser in optimisers.values():
            optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = criterion(net(x), x)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimisers["net"].step()
        net.aux_loss().backward()
        optimisers["aux"].step()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


class _Timer(pl.Callback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_batch_start(self, *_: object) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, *_: object) -> None:
        self.seconds.append(time.perf_counter() - self.start)


class _Same(IterableDataset):
    """One batch, several times: loading data is not what is measured."""

    def __init__(self, batch: Batch, times: int) -> None:
        self.batch, self.times = batch, times

    def __iter__(self) -> Iterator[Batch]:
        return iter([self.batch] * self.times)


def _batch(side: int, count: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image: Tensor = torch.rand(count, 3, side // 8, side // 8, generator=generator)
    image = torch.nn.functional.interpolate(image, size=(side, side), mode="bilinear")
    detail = (torch.rand(count, 1, side, side, generator=generator) < 0.1).float()
    return Batch(image, detail, torch.randint(0, 21, (count, side, side), generator=generator))
