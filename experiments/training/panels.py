"""Image panels: what a module shows of a batch, side by side, and what its pass through the system costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from genic.datamodules.batch import Batch
from genic.lightning_modules.base import CompressionModule
from genic.lightning_modules.codec.errors import DataError

_TITLE_HEIGHT = 14


class Drawn(NamedTuple):
    """Panels of some pictures.

    Attributes:
        pictures: [B, 3, H, W] in [0, 1] by title, on the CPU.
        captions: a line a picture: the titles, and of decoded ones bits per pixel (estimated) and decibels.
        macs: multiply-accumulates a pixel of the last pass through the system, of convolutions and matrix products.
    """

    pictures: dict[str, Tensor]
    captions: list[str]
    macs: float


def fixed_pictures(trainer: pl.Trainer, module: CompressionModule, count: int) -> Batch:
    """The first of the validation pictures, the same at every batch; of training, where there is no such part."""
    data: Any = getattr(trainer, "datamodule", None)
    try:
        loader = data.val_dataloader()
    except DataError:
        loader = data.train_dataloader()
    first: Any = (part[:count] if isinstance(part, Tensor) else None for part in next(iter(loader)))
    return trainer.strategy.batch_to_device(Batch(*first), module.device)


def draw(trainer: pl.Trainer, module: CompressionModule, batch: Batch) -> Drawn:
    """The module's panels of a batch; its modes are as before afterwards."""
    was_training = {part: part.training for part in module.modules()}
    counter = FlopCounterMode(display=False)
    # The averaged copy of a system is one of these, too; instances' own calls may be a data-parallel wrapper's.
    systems = [part for part in module.modules() if type(part) is type(module.system)]
    own = [vars(part).get("forward") for part in systems]
    for part in systems:
        part.forward = _counted(part.forward, counter)
    module.eval()
    torch.manual_seed(0)  # what is drawn at random is the same each time; each batch seeds anew
    try:
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            panels = module.panels(batch)
    finally:
        for part, forward in zip(systems, own, strict=True):
            del part.forward
            if forward is not None:
                part.forward = forward
        for part, training in was_training.items():
            part.training = training
    x, pixels = batch.image.float().cpu(), batch.image[0, 0].numel()
    pictures, captions = {}, [[] for _ in x]
    for title, shown in panels.items():
        picture, bits = shown if isinstance(shown, tuple) else (shown, None)
        pictures[title] = picture.float().clamp(0, 1).cpu()
        for k, words in enumerate(captions):
            words.append(title)
            if bits is not None:
                mse = (pictures[title][k] - x[k]).square().mean().clamp_min(1e-10)
                words[-1] += f" {float(bits[k]) / pixels:.4f} bpp, {float(-10 * mse.log10()):.2f} dB"
    macs = counter.get_total_flops() / 2 / (pixels * len(x))
    return Drawn(pictures, [" | ".join(words) for words in captions], macs)


def picture_grid(panels: Mapping[str, Tensor]) -> Image.Image:
    """One column a title, one row a picture.

    Args:
        panels: [B, 3, H, W] in [0, 1] by title, all of one size.
    """
    pictures = torch.stack(list(panels.values()), 1)
    grid = make_grid(pictures.flatten(0, 1), nrow=len(panels), padding=0)
    picture = to_pil_image(grid.clamp(0, 1).mul(255).round().byte())
    sheet = ImageOps.expand(picture, (0, _TITLE_HEIGHT, 0, 0), "white")
    pen = ImageDraw.Draw(sheet)
    for k, title in enumerate(panels):
        pen.text((k * pictures.shape[-1] + 2, 1), title, fill="black")
    return sheet


def _counted(forward: Callable[..., Any], counter: FlopCounterMode) -> Callable[..., Any]:
    def through(*args: Any, **kwargs: Any) -> Any:
        with counter:
            return forward(*args, **kwargs)

    return through
