"""What the LightningModules of all papers share: the clock, the optimisers, and the way to a codec."""

from __future__ import annotations

import dataclasses
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from genic.datamodules.batch import Batch
from genic.lightning_modules.codec.contract import Codec
from genic.lightning_modules.codec.errors import WeightsError
from genic.lightning_modules.codec.weights import as_stored
from genic.lightning_modules.entropy.gaussian import build_tables
from genic.losses.perceptual import Lpips
from genic.losses.pretrained import has_trunk
from genic.losses.ssim import MIN_SIDE, ms_ssim

Shown = Tensor | tuple[Tensor, Tensor]
"""Pictures [B, 3, H, W] in [0, 1]; decoded ones with the estimated bits of each, [B]."""

if TYPE_CHECKING:
    from genic.lightning_modules.codec.learned import LearnedCodec


class CompressionModule(pl.LightningModule):
    """A paper's training: several optimisers stepped by hand, counted in batches.

    A subclass makes ``system`` and, where there is one, the discriminator ``D`` (or None), and implements `loss_step`
    (one batch: forward, losses, updates, logging), `validation_step` and `panels`.

    Attributes:
        paper: the package under ``lightning_modules``.
        codec_class: made of weights and their metadata.
        config: the paper's `lightning_modules.config.PaperConfig`.
        system: the networks that encode and decode.
        batches_seen: the clock; training batches since the start, resumed runs included. On the host, so that asking
            waits for no device. Lightning's ``global_step`` counts optimiser steps and is used for nothing.
        seed: of everything random in a step.
        gradient_norms: of the last steps, by optimiser: parameters that had a gradient, and its norms on the device.
    """

    paper: ClassVar[str]
    codec_class: ClassVar[type[LearnedCodec]]
    system: nn.Module
    D: nn.Module | None

    def __init__(self, config: Any, seed: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config, self.seed = config, seed
        self.batches_seen = 0
        self._gathering: set[str] = set()  # optimisers with gradients that wait for their step
        self.gradient_norms: dict[str, tuple[list[nn.Parameter], Tensor]] = {}

    @abstractmethod
    def loss_step(self, batch: Batch) -> None:
        """Train on one batch."""

    @abstractmethod
    def panels(self, batch: Batch) -> dict[str, Shown]:
        """Pictures to look at by title, the originals as ``x``; they are clamped where they are shown."""

    def check_data(self, data: Any) -> None:
        """Raise `ConfigError` where the data set (a datamodule) has not what the configuration needs of it; set its
        ``before_crop`` where more than pictures is needed."""

    def optimiser_groups(self) -> dict[str, tuple[Iterable[nn.Parameter], float]]:
        """Parameters and base learning rate of each Adam optimiser, by name; disjoint."""
        rate = self.config.train.learning_rate
        groups: dict[str, tuple[Iterable[nn.Parameter], float]] = {
            "generator": ([p for p in self.system.parameters() if p.requires_grad], rate)
        }
        if isinstance(D := getattr(self, "D", None), nn.Module):
            groups["discriminator"] = (D.parameters(), rate)
        return groups

    def export_weights(self) -> dict[str, Tensor]:
        """The tensors that encoding and decoding need, entropy tables included."""
        return dict(self.system.state_dict()) | build_tables().state()

    def codec(self) -> Codec:
        """The codec of the current weights, as it would be loaded from their file."""
        return self.codec_class(as_stored(self.export_weights()), self.metadata())

    @property
    def fresh(self) -> bool:
        """Whether a run that begins starts from nothing: no checkpoint, no weights."""
        given = self.trainer.ckpt_path is not None or self.config.train.initialise_from is not None
        return self.batches_seen == 0 and not given

    @property
    def adversarial(self) -> bool:
        """Whether ``D`` takes part at this batch."""
        return self.D is not None and self.batches_seen >= self.config.train.adversarial_from

    def random_level(self, x: Tensor, power: float = 1.0) -> Tensor:
        """Rate levels for a batch of pictures, [B]: (levels − 1)·u^power, u uniform."""
        return torch.rand(len(x), device=x.device) ** power * (self.config.model.levels - 1)

    def same_level(self, x: Tensor, level: float | None = None) -> Tensor:
        """One rate level for a batch of pictures, [B]; the middle one by default."""
        at: float = (self.config.model.levels - 1) / 2 if level is None else level
        return torch.full((len(x),), float(at), device=x.device)

    def log_validation(self, x: Tensor, x_hat: Tensor, bits: Tensor, at: object, **more: Tensor) -> None:
        """Log ``validation/…_<at>``, the same names for all papers: ``bpp`` as the entropy model estimates it,
        ``psnr``, ``ms_ssim_db`` from sides of 161 on, ``lpips`` (Alex) where its weights are at hand; and ``more``.
        Means over the batch, of MS-SSIM before it is put in decibels.

        Args:
            x, x_hat: [B, 3, H, W] in [0, 1]. bits: [B], estimated. at: the level, or what else a picture's rate is of.
        """
        x, x_hat, side = x.float(), x_hat.float(), min(x.shape[2:])
        mse = (x_hat - x).square().mean((1, 2, 3))
        values = {"bpp": bits / x[0, 0].numel(), "psnr": -10 * mse.clamp_min(1e-10).log10(), **more}
        if side >= MIN_SIDE:
            values["ms_ssim_db"] = -10 * (1 - ms_ssim(x, x_hat, floor=0).mean()).clamp_min(1e-10).log10()
        if self.validation_lpips is not None and side >= self.validation_lpips.min_side:
            with torch.autocast(x.device.type, enabled=False):
                values["lpips"] = self.validation_lpips.to(x.device)(x, x_hat)
        for name, value in values.items():
            self.log(f"validation/{name}_{at}", value.mean(), batch_size=len(x), sync_dist=True)

    @cached_property  # so, and not as an attribute, it is no part of checkpoints
    def validation_lpips(self) -> Lpips | None:
        """None where its trunk's weights are not at hand; nothing is fetched for a validation."""
        return Lpips("alex") if has_trunk("alexnet") else None

    def initialise_from(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[int, int]:
        """Start from exported weights, of an earlier stage of training perhaps: ``system`` takes over the tensors that
        fit by name and shape. The clock stays at 0.

        Args:
            tensors, metadata: of a weights file.

        Returns:
            How many of the system's parameters started from the file, and how many there are.

        Raises:
            WeightsError: the file is another paper's, or none of the parameters fits.
        """
        if metadata["paper"] != self.paper:
            raise WeightsError(
                f"train.initialise_from gives weights of {metadata['paper']}: {self.paper} starts from its own"
            )
        own = self.system.state_dict()
        fitting = {n: t.to(own[n].dtype) for n, t in tensors.items() if n in own and t.shape == own[n].shape}
        # Parameters alone tell: constant buffers fit every configuration.
        names = [name for name, _ in self.system.named_parameters()]
        taken = sum(name in fitting for name in names)
        if not taken:
            raise WeightsError(
                f"train.initialise_from gives weights of which no parameter fits this configuration of {self.paper}: "
                "give the model's values of the config.yaml beside them"
            )
        self.system.load_state_dict(own | fitting)
        return taken, len(names)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["batches_seen"] = self.batches_seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.batches_seen = checkpoint["batches_seen"]

    def networks(self) -> list[nn.Module]:
        """What is trained on several processes together: each network is called as a whole in a step, not by its
        parts, or its gradients stay this process's own."""
        return [child for child in self.children() if any(p.requires_grad for p in child.parameters())]

    def differentiated_twice(self) -> list[nn.Module]:
        """The networks whose gradient a loss contains: torch compiles none of those."""
        return []

    def learning_rate_factor(self, batch: int) -> float:
        """Schedule: factor on every base learning rate at batch number ``batch``."""
        return self.config.train.learning_rate_factor(batch)

    def metadata(self) -> dict[str, str]:
        """What a weights file says of itself: the paper and its configuration's part ``model``, enough to rebuild the
        codec; ``coding``, the defaults of encoding; for information ``training`` and ``batches``."""
        c = self.config
        parts = {"config": _json(c.model), "training": _json(c.train), "coding": _json(c.coding)}
        return {"paper": self.paper, **parts, "batches": str(self.batches_seen)}

    def configure_optimizers(self) -> list[Optimizer]:
        groups = self.optimiser_groups()
        self.optimiser_names = list(groups)
        return [
            torch.optim.Adam(list(parameters), lr=rate, fused=True) for parameters, rate in groups.values()
        ]

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # The noise of a batch depends on its number and rank alone: a resumed run repeats it.
        torch.manual_seed(hash((self.seed, self.batches_seen, self.global_rank)) % 2**63)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        factor = self.learning_rate_factor(self.batches_seen)
        for optimiser, (_, rate) in zip(self._optimisers(), self.optimiser_groups().values(), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor * group.get("scale", 1.0)
        with _finite_statistics(self):
            self.loss_step(batch)
        self.batches_seen += 1

    @property
    def steps_now(self) -> bool:
        """Whether optimisers step in this batch, the last of ``train.accumulate``."""
        return (self.batches_seen + 1) % self.config.train.accumulate == 0

    def update(self, name: str, loss: Tensor, clip: float | None = None, pause: Tensor | None = None) -> None:
        """One step of optimiser ``name`` on ``loss``; what ``loss`` reaches of other optimisers is left alone.

        With ``train.accumulate`` the gradient is put by, and the last batch steps on the mean. Logs
        ``gradient/<name>``, the norm of the gradients before clipping to ``clip``. A step on a gradient with NaN or
        infinity is none (`experiments.training.health` says what becomes of the run), nor is one where ``pause``, a
        bool on the device, is true: both without waiting for the device.
        """
        optimiser = self._optimisers()[self.optimiser_names.index(name)]
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        if name not in self._gathering:
            optimiser.zero_grad(set_to_none=True)
            self._gathering.add(name)
        # Of a network that is shared out, gradients go to copies first; there is no other optimiser then.
        reach = {"inputs": parameters} if self.device_mesh is None else {}
        self.manual_backward(loss / self.config.train.accumulate, **reach)
        if not self.steps_now:
            return
        self._gathering.remove(name)
        # As torch's `clip_grad_norm_`, which keeps the norms of the parts to itself.
        reached = [p for p in parameters if p.grad is not None]
        each = torch._foreach_norm([p.grad for p in reached])  # pyright: ignore[reportPrivateImportUsage]
        norms = whole(torch.stack(each))
        norm = torch.linalg.vector_norm(norms)
        nn.utils.clip_grads_with_norm_(parameters, float("inf") if clip is None else clip, norm)
        left_out = ~norm.isfinite()
        # As mixed precision's scaler has it: a fused optimiser leaves the step out where this is 1.
        inner = getattr(optimiser, "optimizer", optimiser)  # Lightning's wrapper hands no attributes on
        inner.found_inf = (left_out if pause is None else left_out | pause).float()
        optimiser.step()
        self.gradient_norms[name] = reached, norms
        self.log(f"gradient/{name}", norm)

    def _optimisers(self) -> list[Any]:
        optimisers = self.optimizers()
        return optimisers if isinstance(optimisers, list) else [optimisers]


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which each process may have a part."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@contextmanager
def _finite_statistics(module: nn.Module) -> Iterator[None]:
    """What batch norms gather stays as it was where NaN or infinity would come into it."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.training]
    statistics = [s for norm in norms for s in (norm.running_mean, norm.running_var) if s is not None]
    before = [s.clone() for s in statistics]
    yield
    for new, old in zip(statistics, before, strict=True):
        new.copy_(torch.where(new.isfinite(), new, old))


def _json(part: Any) -> str:
    return json.dumps(dataclasses.asdict(part), sort_keys=True)
