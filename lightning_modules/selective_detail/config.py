"""Configuration of selective detail decoding; the values here are those of the paper."""

from __future__ import annotations

from dataclasses import dataclass, field

from lightning_modules.schedule import Schedule


@dataclass
class SelectiveDetailConfig(Schedule):
    """Akutsu et al., CLIC 2020, section 3.1.

    Widths list the channels between components, picture and latents included. The paper prints 64 at E's end
    and 32 at the decoders' start, which cannot both be; ``latents`` (64) stands for both.

    Attributes:
        latents: channels of ẑ.
        E, G_m, G_s, D: widths of the encoder, the main and the detail decoder, the discriminator.
        E_blocks, G_m_blocks, G_s_blocks, D_blocks: attention blocks in each body; CVQN's six, this paper is silent.
        hyper: channels of ẑ_h and of both inner widths of H_d. H_e is latents, hyper, hyper, hyper.
        hyper_blocks: attention blocks in H_e's bodies.
        psi: channels of ψ, H_d's output.
        context: width of the context estimator and the mixing body. heads, radius: of the causal attention.
        skew: s of the decoding order t = s·i + j, 1 or 2.
        detail_decoder: False leaves out G_s: the paper's comparison, one decoder trained on MS-SSIM.
        lambda_p: weight of the weighted MS-SSIM (equation 3). lambda_g: of the adversarial loss (equation 5).
        lambda_e: of the rate in bits per pixel (equation 5), one value a level, in descending order. One level is
            the paper; more make one network serve several rates with gain units (Cui et al. 2021).
        level_power: a training crop's level is (levels − 1)·u^level_power, u uniform; below 1 high rates come oftener.
        background: weight of unlabelled pixels in the weighted MS-SSIM, 0 to 1; the paper is silent.
        semantic_classes: number of classes in t_s. semantic_features: channels it is reduced to by 1×1 for D.
        detail_from: batch from which G_s is trained, starting as G_m's copy where their widths agree; until then
            x̂ = x̂_m. The paper trains all from the start (0).
        adversarial_from: batch from which G_m is trained against D; the paper is silent (0).
        learning_rate: of Adam; the paper names no decay.
        clip: bound on the norm of each network's gradient; the paper is silent.
        mse: weight of an additional mean squared error on x̂_m and x̂, [0, 1] range; not in the paper (0).
    """

    latents: int = 64
    E: list[int] = field(default_factory=lambda: [3, 32, 64, 128, 192])
    E_blocks: list[int] = field(default_factory=lambda: [6, 6, 6, 6])
    G_m: list[int] = field(default_factory=lambda: [192, 128, 64, 32, 3])
    G_m_blocks: list[int] = field(default_factory=lambda: [6, 6, 6, 6])
    G_s: list[int] = field(default_factory=lambda: [192, 96, 64, 32, 4])
    G_s_blocks: list[int] = field(default_factory=lambda: [6, 6, 6, 6])
    D: list[int] = field(default_factory=lambda: [8, 32, 64, 128, 192])
    D_blocks: list[int] = field(default_factory=lambda: [6, 6, 6, 6])
    hyper: int = 32
    hyper_blocks: int = 6
    psi: int = 128
    context: int = 128
    heads: int = 4
    radius: int = 4
    skew: int = 1
    detail_decoder: bool = True
    lambda_p: float = 5.0
    lambda_g: float = 0.01
    lambda_e: list[float] = field(default_factory=lambda: [0.18])
    level_power: float = 1.0
    background: float = 0.1
    mse: float = 0.0
    semantic_classes: int = 21
    semantic_features: int = 5
    detail_from: int = 0
    adversarial_from: int = 0
    learning_rate: float = 8e-5
    clip: float = 1.0
