"""Configurations of every paper: what cannot be trained or decoded is refused where it is made, by the field's name."""

import pytest

pytest.importorskip("omegaconf")

from genic.experiments.config import load_config
from genic.experiments.run import train
from genic.experiments.training.devices import Placement
from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.registry import PAPERS

# Paper -> (settings, the field that the error names).
WRONG = {
    "selective_detail": [
        ("model.levels=0", "model.levels"),
        ("model.E=[3,8,8,16]", "model.E"),
        ("model.E=[1,4,8,8,16]", "model.E"),
        ("model.G_m=[16,8,8,4,4]", "model.G_m"),
        ("model.G_s=[16,8,8,4,3]", "model.G_s"),
        ("model.E_blocks=[1]", "model.E_blocks"),
        ("model.skew=3", "model.skew"),
        ("model.transform=wavelet", "model.transform"),
        ("train.rate_weight=[]", "train.rate_weight"),
        ("train.rate_weight=[1.0,0.0]", "train.rate_weight"),
        ("train.level_power=0", "train.level_power"),
        ("train.background=1.5", "train.background"),
        ("train.condition=none", "train.condition"),
        ("train.D=[4,4,8,8,16]", "train.D"),
    ],
    "gdae_sprc": [
        ("model.levels=0", "model.levels"),
        ("model.centres=8", "model.centres"),
        ("model.E=[]", "model.E"),
        ("model.G=[8]", "model.G"),
        ("model.context=15 model.heads=2", "model.context"),
        ("train.rate_weight=[0.5,4.0]", "train.rate_weight"),
        ("train.rate_weight=[]", "train.rate_weight"),
        ("train.gan_loss=printed", "train.gan_loss"),
        ("train.sigma=0", "train.sigma"),
        ("train.ssim_weight=-1", "train.ssim_weight"),
        ("train.part=restoration", "model.R"),
        ("model.R=4 model.R_blocks=0", "model.R_blocks"),
        ("train.restoration_qp=[30,22]", "train.restoration_qp"),
        ("coding.effort=glacial", "coding.effort"),
        ("coding.strength=52", "coding.strength"),
        ("coding.level=7.0", "coding.level"),
    ],
    "gan_reversal": [
        ("model.generator=vae", "model.generator"),
        ("model.widths=[]", "model.widths"),
        ("model.blocks=[1]", "model.blocks"),
        ("model.scale_index=64", "model.scale_index"),
        ("train.r1_every=0", "train.r1_every"),
        ("train.average_weights=1", "train.average_weights"),
        ("train.adversarial_weight=-1", "train.adversarial_weight"),
        ("model.encoder=false", "train.ssim_weight"),
        ("coding.continuous=1", "coding.continuous"),
        ("coding.rates=[0.6,0.15]", "coding.rates"),
        ("coding.default_rate=0.5", "coding.default_rate"),
    ],
    "ppgn_inpainting": [
        ("model.classifier_weights=mine", "model.classifier_weights"),
        ("model.up=[]", "model.up"),
        ("model.after=[0]", "model.after"),
        ("model.filler_blocks=[1]", "model.filler_blocks"),
        ("model.vector=true model.dense=[10]", "model.dense"),
        ("model.h_low=40", "model.h_low"),
        ("train.gan_loss=printed", "train.gan_loss"),
        ("train.parts=[1,1]", "train.parts"),
        ("train.restore_quality=[50,10]", "train.restore_quality"),
        ("train.restore_scales=[0.9]", "train.restore_scales"),
    ],
    "extreme_semantic": [
        ("model.C=[]", "model.C"),
        ("model.C=[4,2]", "model.C"),
        ("model.norm=batch", "model.norm"),
        ("model.G=[8]", "model.G"),
        ("model.map_stride=3", "model.F"),
        ("model.skew=0", "model.skew"),
        ("train.selective=0", "train.selective"),
        ("train.keep=2", "train.keep"),
        ("train.scales=0", "train.scales"),
        ("model.transform=wavelet", "model.transform"),
        ("model.transform=pretrained model.after=[8]", "model.after"),
        ("model.transform=pretrained model.map_stride=4", "model.F"),
        ("train.discriminator=patch", "train.discriminator"),
        ("train.discriminator=oasis train.labels=codebook", "train.labels"),
        ("train.ignored=[horse]", "train.ignored"),
        ("train.layer_weights=[1.0]", "train.layer_weights"),
        ("train.rate_weight=-1", "train.rate_weight"),
    ],
    "hyperprior": [
        ("model.levels=0", "model.levels"),
        ("model.g_a=[3,8,8]", "model.g_a"),
        ("model.g_a=[1,8,8,8,8]", "model.g_a"),
        ("model.g_s=[9,8,8,8,3]", "model.g_s"),
        ("model.h_a=[9,4,4,4]", "model.h_a"),
        ("model.h_s=[7,8,8,8]", "model.h_s"),
        ("model.skew=4", "model.skew"),
        ("train.rate_weight=[]", "train.rate_weight"),
        ("train.mse_weight=0 train.ms_ssim_weight=0", "train.mse_weight"),
    ],
}
COMMON = [
    ("train.batches=0", "train.batches"),
    ("train.keep_every=-1", "train.keep_every"),
    ("train.precision=16", "train.precision"),
    ("train.learning_rate=0", "train.learning_rate"),
    ("train.clip=0", "train.clip"),
]


def test_every_paper_has_a_list():
    assert WRONG.keys() == PAPERS.keys()


@pytest.mark.parametrize(
    ("paper", "settings", "field"),
    [(paper, *wrong) for paper, own in WRONG.items() for wrong in (*own, *COMMON)],
)
def test_wrong_values_are_refused_by_name(paper, settings, field):
    with pytest.raises(ConfigError) as refused:
        load_config(paper, ["preset=nano", *settings.split()])
    assert str(refused.value).startswith(f"{field} is "), refused.value


@pytest.mark.parametrize("paper", PAPERS)
def test_a_configuration_checks_itself_without_the_command_line(paper):
    config = PAPERS[paper].config_class()
    parts = {part: type(getattr(config(), part)) for part in ("model", "train", "coding")}
    with pytest.raises(ConfigError, match=r"train\.batches is 0"):
        config(parts["model"](), parts["train"](batches=0), parts["coding"]())


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (["data.labels=[detail]"], "data.labels"),
        (["train.semantic_classes=1"], "train.semantic_classes"),
    ],
)
def test_labels_that_a_discriminator_cannot_see_are_refused(settings, field, tmp_path):
    config = load_config("selective_detail", ["preset=nano", *settings])
    with pytest.raises(ConfigError, match=rf"^{field} is "):
        train(config, out=tmp_path, placement=Placement("cpu", 1))
