"""Configuration of joint autoregressive and hierarchical priors; the values here are those of the paper."""

from __future__ import annotations

from dataclasses import dataclass, field

from genic.lightning_modules.config import CodingConfig, Fields, PaperConfig, TrainConfig


@dataclass
class HyperpriorModel:
    """Minnen et al. 2018, table 1: all that decoding needs.

    Widths list the channels between layers, picture and latents included. N = M = 192 as in the table; for high rates
    CompressAI has M = 320.

    Attributes:
        levels: number of rate levels. One is the paper; more make one network serve several rates with gain units
            (Cui et al. 2021).
        g_a, g_s: widths of analysis and synthesis, four halvings and doublings of the sides.
        h_a, h_s: widths of hyper analysis and synthesis; the second and third layers halve and the first two double.
        entropy_parameters: widths between the 1×1 layers that join context and hyperprior.
        skew: s of the decoding order t = s·i + j: 3 has raster order's context, as published; 1 and 2 decode in fewer
            steps with less context (`lightning_modules.entropy.context.MaskedContext`).
    """

    levels: int = 1
    g_a: list[int] = field(default_factory=lambda: [3, 192, 192, 192, 192])
    g_s: list[int] = field(default_factory=lambda: [192, 192, 192, 192, 3])
    h_a: list[int] = field(default_factory=lambda: [192, 192, 192, 192])
    h_s: list[int] = field(default_factory=lambda: [192, 192, 288, 384])
    entropy_parameters: list[int] = field(default_factory=lambda: [640, 512])
    skew: int = 3

    @property
    def stride(self) -> int:
        """Pixels a side of one position of ŷ; pictures are padded to multiples of it."""
        return 16


@dataclass
class HyperpriorTraining(TrainConfig):
    """The loss R + λ·D of equation 1, its parts weighted one by one.

    Attributes:
        rate_weight: of the rate in bits per pixel; one value a level, in descending order. The paper has 1, and a
            network for each λ.
        mse_weight: of the squared error of pictures in [0, 1]: λ·255² in the usual notation.
        ms_ssim_weight: of 1 − MS-SSIM.
    """

    rate_weight: list[float] = field(default_factory=lambda: [1.0])
    mse_weight: float = 0.013 * 255**2
    ms_ssim_weight: float = 0.0


@dataclass
class HyperpriorConfig(PaperConfig):
    """The paper's configuration in its parts."""

    model: HyperpriorModel = field(default_factory=HyperpriorModel)
    train: HyperpriorTraining = field(default_factory=HyperpriorTraining)
    coding: CodingConfig = field(default_factory=CodingConfig)

    def check(self) -> None:
        super().check()
        m, t = self.model, self.train
        model, train = Fields("model", m), Fields("train", t)
        model.between(1, 32, "levels")
        model.between(1, 3, "skew")
        for name, count in {"g_a": 5, "g_s": 5, "h_a": 4, "h_s": 4}.items():
            widths = getattr(m, name)
            model.require(name, len(widths) == count and min(widths) >= 1, f"{count} widths")
        good = all(w >= 1 for w in m.entropy_parameters)
        model.require("entropy_parameters", good, "a list of widths")
        model.require("g_a", m.g_a[0] == 3, "3 channels, the picture's, at the start")
        model.require("g_s", m.g_s[-1] == 3, "3 channels, the picture's, at the end")
        for name, before in (("g_s", "g_a"), ("h_a", "g_a"), ("h_s", "h_a")):
            last = getattr(m, before)[-1]
            model.require(name, getattr(m, name)[0] == last, f"{last} channels, {before}'s, at the start")
        train.counts(m.levels, "rate_weight", "levels")
        train.require("rate_weight", min(t.rate_weight) > 0, "a list of values above 0")
        train.at_least(0, "mse_weight", "ms_ssim_weight")
        train.require("mse_weight", t.mse_weight + t.ms_ssim_weight > 0, "a distortion with a weight")
