"""Configuration of selective detail decoding; the values here are those of the paper."""

from __future__ import annotations

from dataclasses import dataclass, field

from genic.lightning_modules.config import CodingConfig, Fields, PaperConfig, TrainConfig

TRANSFORMS = ("attention", "pretrained")
CONDITIONS = ("labels", "latents")


@dataclass
class SelectiveDetailModel:
    """Akutsu et al., CLIC 2020, section 3.1: all that decoding needs.

    Widths list the channels between components, picture and latents included. The paper prints 64 at E's end
    and 32 at the decoders' start, which cannot both be; ``latents`` (64) stands for both.

    Attributes:
        levels: number of rate levels. One is the paper; more make one network serve several rates with gain units
            (Cui et al. 2021).
        latents: channels of ẑ.
        E, G_m, G_s: widths of the encoder, the main and the detail decoder.
        E_blocks, G_m_blocks, G_s_blocks: attention blocks in each body; CVQN's six, this paper is silent.
        hyper: channels of ẑ_h and of both inner widths of H_d. H_e is latents, hyper, hyper, hyper.
        hyper_blocks: attention blocks in H_e's bodies.
        psi: channels of ψ, H_d's output.
        context: width of the context estimator and the mixing body. heads, radius: of the causal attention.
        skew: s of the decoding order t = s·i + j, 1 or 2.
        detail_decoder: False leaves out G_s: the paper's comparison, one decoder trained on MS-SSIM.
        correction: with a ``pretrained`` transform, G_s's widths at 1/8, 1/4 and 1/2 of the sides
            (`networks.DetailCorrection`).
        transform: of E and G_m. ``attention`` is the publication; ``pretrained`` has TAEF2 between pictures and 1/8 of
            their sides, and between that and ẑ a linear map beside residual attention blocks (`networks`): E, G_m
            and G_s then have no widths of their own.
        analysis_blocks, synthesis_blocks: those attention blocks in E and in G_m. synthesis: their width in G_m.
        light_decoder: leave out TAEF2's layers at full resolution (`layers.taef.Decoder`).
    """

    levels: int = 1
    latents: int = 64
    E: list[int] = field(default_factory=lambda: [3, 32, 64, 128, 192])
    E_blocks: list[int] = field(default_factory=lambda: [6, 6, 6, 6])
    G_m: list[int] = field(default_factory=lambda: [192, 128, 64, 32, 3])
    G_m_blocks: list[int] = field(default_factory=lambda: [6, 6, 6, 6])
    G_s: list[int] = field(default_factory=lambda: [192, 96, 64, 32, 4])
    G_s_blocks: list[int] = field(default_factory=lambda: [6, 6, 6, 6])
    hyper: int = 32
    hyper_blocks: int = 6
    psi: int = 128
    context: int = 128
    heads: int = 4
    radius: int = 4
    skew: int = 1
    detail_decoder: bool = True
    correction: list[int] = field(default_factory=lambda: [48, 32, 24])
    transform: str = "attention"
    analysis_blocks: int = 1
    synthesis: int = 128
    synthesis_blocks: int = 4
    light_decoder: bool = True

    @property
    def stride(self) -> int:
        """Pixels a side of one position of ẑ, in either transform; pictures are padded to multiples of it."""
        return 16


@dataclass
class SelectiveDetailTraining(TrainConfig):
    """Losses and schedule of section 2.5 and 3.1.

    Attributes:
        rate_weight: λ_e of equation 5, of the rate in bits per pixel; one value a level, in descending order.
        detail_weight: λ_p of equation 3, of the weighted MS-SSIM.
        adversarial_weight: λ_g of equation 5; 0 leaves D out.
        ms_ssim_weight: of 1 − MS-SSIM of x̂_m in equation 3, where it is 1.
        mse_weight: of an additional mean squared error on x̂_m and x̂, [0, 1] range; not in the paper (0).
        perceptual_weight: of LPIPS (SqueezeNet) of x̂_m; not in the paper (0).
        exact_weight: of 1 − MS-SSIM of x̂_s, so that G_s alone is a faithful picture, too; not in the paper (0).
        mask_weight: of the mask's distance from t_a (`mask_distance`); not in the paper (0), whose losses reward m
            wherever G_s is the more faithful, labelled or not.
        background: weight of unlabelled pixels in the weighted MS-SSIM, 0 to 1; the paper is silent.
        level_power: a training crop's level is (levels − 1)·u^level_power, u uniform; below 1 high rates come oftener.
        condition: of the discriminator: ``labels``, the publication's, or ``latents`` (`networks.LatentDiscriminator`).
        D: widths of the discriminator, for labels with its input's, picture and reduced labels, first.
        D_blocks: attention blocks in its bodies, for labels.
        semantic_classes: number of classes in t_s. semantic_features: channels it is reduced to by 1×1 for D.
        detail_from: batch from which G_s is trained, starting as G_m's copy where their widths agree; until then
            x̂ = x̂_m. The paper trains all from the start (0).
        adversarial_from: batch from which G_m is trained against D; the paper is silent (0).
        pretrained_rate: factor on the learning rate of TAEF2's own layers.
        frozen: prefixes of the names of the system's parameters that are not trained.
        gain_start, gain_step: logarithm of level 0's gain and its rise from level to level, with ``pretrained``.
    """

    rate_weight: list[float] = field(default_factory=lambda: [0.18])
    detail_weight: float = 5.0
    adversarial_weight: float = 0.01
    ms_ssim_weight: float = 1.0
    mse_weight: float = 0.0
    perceptual_weight: float = 0.0
    exact_weight: float = 0.0
    mask_weight: float = 0.0
    background: float = 0.1
    level_power: float = 1.0
    condition: str = "labels"
    D: list[int] = field(default_factory=lambda: [8, 32, 64, 128, 192])
    D_blocks: list[int] = field(default_factory=lambda: [6, 6, 6, 6])
    semantic_classes: int = 21
    semantic_features: int = 5
    detail_from: int = 0
    adversarial_from: int = 0
    learning_rate: float = 8e-5
    pretrained_rate: float = 1.0
    frozen: list[str] = field(default_factory=list)
    gain_start: float = 0.0
    gain_step: float = 0.35


@dataclass
class SelectiveDetailConfig(PaperConfig):
    """The paper's configuration in its parts."""

    model: SelectiveDetailModel = field(default_factory=SelectiveDetailModel)
    train: SelectiveDetailTraining = field(default_factory=SelectiveDetailTraining)
    coding: CodingConfig = field(default_factory=CodingConfig)

    def check(self) -> None:
        super().check()
        m, t = self.model, self.train
        model, train = Fields("model", m), Fields("train", t)
        model.at_least(1, "levels")
        train.counts(m.levels, "rate_weight", "levels")
        train.require("rate_weight", min(t.rate_weight) > 0, "a list of values above 0")
        model.between(1, 2, "skew")
        train.above(0, "level_power")
        train.between(0, 1, "background")
        train.at_least(1, "semantic_classes")
        model.one_of(TRANSFORMS, "transform")
        attention = m.transform == "attention"
        # ẑ has one position for 16×16 pixels in E, the decoders and the hyperprior's padding alike.
        networks = ["E", "G_m", "G_s"] if m.detail_decoder else ["E", "G_m"]
        for name in networks if attention else []:
            widths, blocks = getattr(m, name), getattr(m, f"{name}_blocks")
            model.require(name, len(widths) == 5, "five widths (four halvings of the sides)")
            model.require(f"{name}_blocks", len(blocks) == 4, "four numbers of blocks")
        model.require("E", not attention or m.E[0] == 3, "3 channels, the picture's, at the start")
        model.require("G_m", not attention or m.G_m[-1] == 3, "3 channels, the picture's, at the end")
        model.require("correction", len(m.correction) == 3, "three widths (1/8, 1/4 and 1/2 of the sides)")
        masked = not m.detail_decoder or m.G_s[-1] == 4
        model.require("G_s", masked, "4 channels, picture and mask, at the end")
        copied = attention or not m.detail_decoder or t.detail_from == 0
        train.require("detail_from", copied, "0 (G_s is no copy of a pretrained G_m)")
        train.one_of(CONDITIONS, "condition")
        if t.adversarial_weight > 0 and t.condition == "latents":
            train.require("D", 2 <= len(t.D) <= 5, "2 to 5 widths")
        if t.adversarial_weight > 0 and t.condition == "labels":
            inputs = 3 + t.semantic_features
            train.require("D", t.D[0] == inputs, f"{inputs} channels, picture and labels, at the start")
            train.counts(len(t.D) - 1, "D_blocks", "bodies")
