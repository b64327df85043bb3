"""Configuration of joint autoregressive and hierarchical priors; the values here are those of the paper."""

from __future__ import annotations

from dataclasses import dataclass, field

from lightning_modules.config import CodingConfig, PaperConfig, TrainConfig, require


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
        """Raise `ConfigError` on a network that cannot be built or decoded, or losses that do not fit it."""
        super().check()
        m, t = self.model, self.train
        require(1 <= m.levels <= 32, "model.levels", m.levels, "1 to 32")
        require(m.skew in (1, 2, 3), "model.skew", m.skew, "1, 2 or 3")
        counts = {"g_a": 5, "g_s": 5, "h_a": 4, "h_s": 4}
        for name, count in counts.items():
            widths = getattr(m, name)
            require(len(widths) == count and min(widths) >= 1, f"model.{name}", widths, f"{count} widths")
        widths = m.entropy_parameters
        require(all(w >= 1 for w in widths), "model.entropy_parameters", widths, "a list of widths")
        require(m.g_a[0] == 3, "model.g_a", m.g_a, "3 channels, the picture's, at the start")
        require(m.g_s[-1] == 3, "model.g_s", m.g_s, "3 channels, the picture's, at the end")
        joints = (("g_s", m.g_s[0], "g_a", m.g_a[-1]), ("h_a", m.h_a[0], "g_a", m.g_a[-1]))
        for name, first, before, last in (*joints, ("h_s", m.h_s[0], "h_a", m.h_a[-1])):
            require(
                first == last, f"model.{name}", getattr(m, name), f"{last} channels, {before}'s, at the start"
            )
        weights = t.rate_weight
        require(
            len(weights) == m.levels, "train.rate_weight", weights, f"one value for each of {m.levels} levels"
        )
        require(min(weights) > 0, "train.rate_weight", weights, "a list of values above 0")
        for name in ("mse_weight", "ms_ssim_weight"):
            require(getattr(t, name) >= 0, f"train.{name}", getattr(t, name), "0 or more")
        require(
            t.mse_weight + t.ms_ssim_weight > 0,
            "train.mse_weight",
            t.mse_weight,
            "a distortion with a weight",
        )
