"""Selective detail decoding: the system's equations, one training step's parts, and the codec's promises."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from torch import nn

from genic.datamodules.batch import Batch
from genic.datamodules.images import ImageItem, read_image, write_png
from genic.eval.metrics import psnr_rgb
from genic.eval.runner import WorkerPairs
from genic.experiments import paper_tables, tables
from genic.experiments.config import load_config
from genic.experiments.paper_tables.selective_detail import common, table
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.errors import ConfigError, WeightsError
from genic.lightning_modules.codec.learned import to_image
from genic.lightning_modules.codec.weights import save_weights
from genic.lightning_modules.layers import taef
from genic.lightning_modules.layers.attention_blocks import ResidualGroup
from genic.lightning_modules.layers.pretrained import start_as_klt
from genic.lightning_modules.registry import open_codec
from genic.lightning_modules.selective_detail.codec import SelectiveDetailCodec
from genic.lightning_modules.selective_detail.module import mask_distance
from genic.lightning_modules.selective_detail.networks import Discriminator
from genic.lightning_modules.selective_detail.system import System
from genic.losses.gan import softplus_discriminator, softplus_generator
from genic.losses.pretrained import load_taef, shared_file
from genic.losses.ssim import ms_ssim, weighted_ms_ssim
from tests import helpers
from tests.recorder import Recorder

nano = partial(helpers.nano, "selective_detail")


def batch(count: int = 2, side: int = 176) -> Batch:
    """Crops of a photograph, with a square of detail and two semantic classes."""
    picture = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    image = torch.stack([picture[:, 40 * k : 40 * k + side, 60 : 60 + side] for k in range(count)])
    detail = torch.zeros(count, 1, side, side)
    detail[..., 40:90, 50:120] = 1
    semantic = torch.zeros(count, side, side, dtype=torch.int64)
    semantic[:, side // 2 :] = 15
    return Batch(image, detail, semantic)


def test_equation_1_mixes_the_decoders_by_the_mask() -> None:
    system = nano().system.eval()
    z_hat = torch.randn(1, 8, 11, 11).round()
    picture = system.reconstruct(z_hat, torch.zeros(1))
    expected = picture.x_hat_s * picture.m + picture.x_hat_m * (1 - picture.m)
    assert torch.equal(picture.x_hat, expected)
    assert picture.m.min() > 0 and picture.m.max() < 1
    assert picture.x_hat.shape == (1, 3, 176, 176)


def test_gain_units_are_undone_at_the_start_and_interpolate_geometrically() -> None:
    gain = nano().system.gain
    z = torch.randn(3, 8, 4, 4)
    level = torch.tensor([0.0, 0.5, 1.0])
    torch.testing.assert_close(gain.inverse(gain(z, level), level), z)
    low, middle, high = (gain(torch.ones(1, 8, 1, 1), torch.tensor([at])) for at in (0.0, 0.5, 1.0))
    torch.testing.assert_close(middle, (low * high).sqrt())
    assert (high > low).all()


def test_a_step_s_losses_are_equations_3_to_5() -> None:
    module, crops = nano(mse_weight=0.0, background=0.25), batch()
    recorder = Recorder(module)
    torch.manual_seed(7)
    module.loss_step(crops)

    torch.manual_seed(7)
    level = torch.rand(2)
    # The memory format decides the order in which the noise is drawn.
    picture, rate = module.system(crops.image.contiguous(memory_format=torch.channels_last), level)
    bpp = (rate.latents + rate.hyper_latents) / 176**2
    real, fake = module.D(crops.image, crops.semantic), module.D(picture.x_hat_m, crops.semantic)
    lambda_e = torch.exp(torch.lerp(torch.tensor(2.0).log(), torch.tensor(0.5).log(), level))
    equation_3 = (1 - ms_ssim(crops.image, picture.x_hat_m)) + 5 * (
        1 - weighted_ms_ssim(crops.image, picture.x_hat, crops.detail, 0.25)
    )
    equation_5 = (equation_3 + lambda_e * bpp).mean() + 0.01 * softplus_generator(fake)
    assert recorder.logged["loss/total"] == pytest.approx(equation_5.item(), rel=1e-5)
    assert recorder.logged["loss/discriminator"] == pytest.approx(
        softplus_discriminator(real, fake).item(), rel=1e-5
    )
    assert recorder.logged["rate/bpp_estimated"] == pytest.approx(bpp.mean().item(), rel=1e-5)


def test_terms_of_our_own_for_the_mask_and_the_exact_picture() -> None:
    totals = []
    for weights in ({}, {"exact_weight": 2.0}, {"mask_weight": 3.0}):
        module, crops = nano(**weights), batch()
        recorder = Recorder(module)
        torch.manual_seed(7)
        module.loss_step(crops)
        totals.append(recorder.logged["loss/total"])
    fresh = nano()
    torch.manual_seed(7)
    picture = fresh.system(crops.image.contiguous(memory_format=torch.channels_last), torch.rand(2)).picture
    exact = (1 - ms_ssim(crops.image, picture.x_hat_s)).mean().item()
    inside, outside = picture.m[crops.detail == 1], picture.m[crops.detail == 0]
    distance = ((1 - inside).mean() + outside.mean()).item() / 2
    assert totals[1] - totals[0] == pytest.approx(2 * exact, rel=1e-4)
    assert totals[2] - totals[0] == pytest.approx(3 * distance, rel=1e-4)
    assert mask_distance(crops.detail, crops.detail) == 0


def test_the_viewer_chooses_how_much_of_the_detail_decoder_is_seen() -> None:
    codec, image = nano().codec(), data.astronaut()[:50, :70]
    file = codec.encode(image)
    shown = [codec.decode(file, detail=detail) for detail in (0, 0.5, 1, 1.5, 2)]
    assert np.array_equal(shown[2], codec.decode(file))
    z_hat, _, level = codec.analyse(image, codec.default_quality)
    picture = codec.system.reconstruct(z_hat[None], torch.tensor([level]))
    for end, decoder in ((0, picture.x_hat_m), (-1, picture.x_hat_s)):
        assert np.array_equal(shown[end], to_image(decoder[0, :, :50, :70]))
    # Each step goes on towards G_s's picture.
    distances = [np.abs(picture.astype(int) - shown[-1]).mean() for picture in shown]
    assert distances == sorted(distances, reverse=True) and len(set(distances)) == 5
    for wrong in (-0.1, 2.5, float("nan")):
        with pytest.raises(ConfigError, match="detail is 0"):
            codec.decode(file, detail=wrong)
    with pytest.raises(ConfigError, match="did you mean 'detail'"):
        codec.decode(file, detial=1)
    with pytest.raises(ConfigError, match="it has none"):
        open_codec("jpeg").decode(open_codec("jpeg").encode(image), detail=1)


def test_the_mask_can_be_seen_itself() -> None:
    codec, image = nano().codec(), data.astronaut()[:50, :70]
    file = codec.encode(image)
    z_hat, _, level = codec.analyse(image, codec.default_quality)
    m = codec.system.reconstruct(z_hat[None], torch.tensor([level])).m[0, 0, :50, :70].numpy()
    shown = codec.decode(file, mask=True)
    assert np.abs(shown / 255 - m[..., None]).max() <= 0.5 / 255 + 1e-6


def test_the_publication_s_tables_and_figures(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    """Two pictures, of which one has a region: every part's figures against the codec's own."""
    monkeypatch.setattr(common.worker, "unavailable", lambda names, *_: dict.fromkeys(names, "left out"))
    module, items = nano(), []
    alone = helpers.nano("selective_detail", detail_decoder=False, adversarial_weight=0.0)
    for name, network in (("both", module), ("alone", alone)):
        save_weights(tmp_path / f"{name}.safetensors", network.export_weights(), network.metadata())
    for k, inside in enumerate((True, False)):
        write_png(tmp_path / f"p{k}.png", helpers.photograph(40, 56))
        items.append(ImageItem(f"p{k}.png", tmp_path / f"p{k}.png"))
        region = np.zeros((40, 56), np.uint8)
        region[10:30, 5:40] = inside
        write_png(tmp_path / "maps" / f"p{k}.png", region)
    workers = WorkerPairs()  # one pair for all commands
    request.addfinalizer(lambda: workers.__exit__())
    monkeypatch.setattr(common, "WorkerPairs", lambda *_: nullcontext(workers))
    monkeypatch.setattr(paper_tables.common, "dataset", lambda data, root: (None, items))
    codec, out = f"selective_detail:{tmp_path / 'both.safetensors'}", tmp_path / "out"
    shared = ["--codec", codec, "--regions", str(tmp_path / "maps"), "--out", str(out)]

    assert (
        tables.main(
            ["selective_detail", *shared, "--bpp", "4", "--alone", str(tmp_path / "alone.safetensors")]
        )
        == 0
    )
    rows = json.loads((out / "table.json").read_text())["rows"]["4"]
    own, picture = open_codec(codec), items[0].read()
    file = own.encode(picture, target_bpp=4)
    for name, detail in table.DECODERS.items():
        assert rows[name][0]["psnr_rgb"] == pytest.approx(psnr_rgb(picture, own.decode(file, detail=detail)))
    other = open_codec(codec.replace("both", "alone"))
    shown = other.decode(other.encode(picture, target_bpp=4))
    assert len(rows) == 4
    assert rows["one decoder, MS-SSIM"][0]["psnr_rgb"] == pytest.approx(psnr_rgb(picture, shown))

    assert tables.main(["selective_detail", "dial", *shared, "--qualities", "1", "--details", "0,2"]) == 0
    dial = json.loads((out / "dial.json").read_text())["qualities"]["1"]
    file = own.encode(picture, 1)
    assert dial["2"]["psnr_rgb"] == pytest.approx(psnr_rgb(picture, own.decode(file, detail=2)))

    assert tables.main(["selective_detail", "mask", *shared, "--bpp", "4"]) == 0
    means = json.loads((out / "mask.json").read_text())["pictures"]
    m = own.decode(own.encode(picture, target_bpp=4), mask=True)[10:30, 5:40] / 255
    assert means["p0.png"]["inside"] == pytest.approx(m.mean()) and means["p1.png"]["inside"] is None
    assert read_image(out / "mask.png").std() > 20

    for wrong, error in (("jpeg", "not of 'jpeg'"), (codec.replace("both", "alone"), "no detail decoder")):
        assert tables.main(["selective_detail", "mask", "--codec", wrong]) == 2
        assert error in capsys.readouterr().err


def test_each_network_gets_the_gradients_of_its_own_loss() -> None:
    module, crops = nano(), batch()
    Recorder(module)
    torch.manual_seed(7)
    module.loss_step(crops)
    assert all(p.grad is not None for p in module.system.parameters())
    found = module.D.bodies[-1].bias.grad.clone()

    torch.manual_seed(7)
    x = crops.image.contiguous(memory_format=torch.channels_last)
    fake = module.system(x, torch.rand(2)).picture.x_hat_m.detach()
    module.zero_grad()
    loss = softplus_discriminator(module.D(x, crops.semantic), module.D(fake, crops.semantic))
    loss.backward()
    # Had the generator's loss, which passes through D, left gradients there, they would differ.
    norm = torch.stack([p.grad.norm() for p in module.D.parameters()]).norm()
    expected = module.D.bodies[-1].bias.grad * min(1.0, module.config.train.clip / norm)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_the_discriminator_sees_each_sample_s_own_labels() -> None:
    module, crops = nano(), batch()
    different = crops.semantic.clone()
    different[1] = 3
    scores, changed = module.D(crops.image, crops.semantic), module.D(crops.image, different)
    assert torch.equal(scores[0], changed[0])
    assert not torch.equal(scores[1], changed[1])
    out_of_range = torch.full_like(different, 255)
    assert torch.isfinite(module.D(crops.image, out_of_range)).all()


@pytest.mark.parametrize("blocks", ["[1,0,0,0]", "[1,0,0,1]"])
def test_until_its_start_the_detail_decoder_is_exported_as_the_main_one(blocks: str) -> None:
    module = nano(detail_from=5, G_m_blocks=blocks, G_s_blocks=blocks)
    module.batches_seen += 4
    codec = module.codec()
    z_hat = torch.randn(8, 4, 4).round()
    picture = codec.system.reconstruct(z_hat[None], torch.zeros(1))
    torch.testing.assert_close(picture.x_hat, picture.x_hat_m)
    assert torch.equal(picture.m, torch.full_like(picture.m, 0.5))
    module.batches_seen += 1
    later = module.codec().system.reconstruct(z_hat[None], torch.zeros(1))
    assert not torch.allclose(later.x_hat, later.x_hat_m)


def test_one_decoder_alone_is_a_configuration() -> None:
    module = nano(detail_decoder="false", adversarial_weight=0.0)
    assert module.system.G_s is None and module.D is None
    assert list(module.optimiser_groups()) == ["generator"]
    recorder = Recorder(module)
    module.loss_step(batch())
    assert "loss/discriminator" not in recorder.logged
    image = data.astronaut()[:50, :70]
    assert module.codec().decode(module.codec().encode(image)).shape == image.shape


@pytest.mark.parametrize("skew", [1, 2])
def test_decoding_gives_the_encoder_s_own_reconstruction(skew: int) -> None:
    codec = nano(skew=skew).codec()
    image = np.ascontiguousarray(data.astronaut()[100:211, 150:317])
    for quality in (0.0, 0.625, 1.0):
        z_hat, _, level = codec.analyse(image, quality)
        expected = codec.synthesise(z_hat, level, *image.shape[:2])
        assert np.array_equal(codec.decode(codec.encode(image, quality)), expected)


def test_files_carry_their_level_and_at_most_32_bytes_of_overhead() -> None:
    codec = nano().codec()
    image = np.ascontiguousarray(data.astronaut()[:64, :96])
    ledger = Container.from_bytes(codec.encode(image, 0.5)).ledger()
    assert ledger["header"] + ledger["parameters"] <= 32
    assert {"hyper_latents", "latents"} <= set(ledger)
    assert codec.encode(image, 0.5) != codec.encode(image, 0.625)
    with pytest.raises(ConfigError, match="0 to 1"):
        codec.encode(image, 1.5)


def test_weights_of_another_shape_are_refused() -> None:
    module = nano()
    tensors = module.export_weights() | {"G_m.0.weight": torch.zeros(2)}
    with pytest.raises(WeightsError, match="do not fit"):
        SelectiveDetailCodec(tensors, module.metadata())


def test_learning_rate_falls_between_two_batches() -> None:
    module = nano(decay_from=10, decay_to=20, decay_factor=0.1)
    factors = [module.learning_rate_factor(at) for at in (0, 10, 15, 20, 99)]
    assert factors == pytest.approx([1.0, 1.0, 0.55, 0.1, 0.1])


def test_pretrained_transforms_start_as_a_transform_coder() -> None:
    """At the KLT's start z is decorrelated, and G_m gets t back from all of z, whatever TAEF2's weights are."""
    module = nano(
        transform="pretrained", latents=128, detail_decoder="false", synthesis=16, synthesis_blocks=1
    )
    E, G_m = module.system.E, module.system.G_m
    x = batch().image - 0.5
    with torch.no_grad():
        t = E.folded(x)
        rows = t.permute(0, 2, 3, 1).flatten(0, 2)
        rows = rows + 0.01 * torch.randn_like(rows)  # of full rank
        start_as_klt(E, G_m, rows)
        z = E(x)
        torch.testing.assert_close(G_m.linear(z), t, rtol=0, atol=1e-3)
        covariance = torch.cov(E.linear(rows.T[None, :, :, None])[0, :, :, 0])
    assert z.shape == (2, 128, 11, 11) and G_m(z).shape == x.shape
    variance = covariance.diagonal()
    assert (variance[:-1] >= variance[1:] - 1e-4).all()
    assert (covariance - variance.diag()).abs().max() < 1e-3 * variance.max()


def test_a_detail_decoder_beside_a_pretrained_one_corrects_its_picture() -> None:
    """At the start x̂_s = x̂_m and m = ½; what is asked of x̂_s alone reaches E, and not the end of G_m."""
    system = nano(transform="pretrained", latents=8, synthesis=16, synthesis_blocks=1).system
    x, level = batch().image, torch.zeros(2)
    z = torch.randn(2, 8, 11, 11)
    with torch.no_grad():
        picture = system.reconstruct(z, level)
        alone = system.reconstruct(z, level, detail=False)
    torch.testing.assert_close(picture.x_hat_m, alone.x_hat_m)
    assert torch.equal(picture.x_hat_s, picture.x_hat_m) and (picture.m == 0.5).all()

    torch.nn.init.normal_(system.G_s.last.weight)
    system(x, level).picture.x_hat_s.sum().backward()
    assert system.E.linear.weight.grad.abs().sum() > 0 and system.G_s.last.weight.grad.abs().sum() > 0
    assert system.G_m.pixels[17].weight.grad is None


def test_taef2_s_files_fill_the_networks_and_reconstruct(shared_weights) -> None:
    encoder, decoder = taef.Encoder(), taef.Decoder()
    load_taef(encoder, decoder)
    x = batch().image
    with torch.no_grad():
        x_hat = decoder(encoder(x)).clamp(0, 1)
    psnr = -10 * torch.log10((x - x_hat).square().mean())
    assert psnr > 27  # 27 to 34 dB on photographs; 5 to 10 with a layer out of place


def test_frozen_layers_have_no_optimiser_and_taef2_s_own_learn_slowly() -> None:
    module = nano(
        transform="pretrained", latents=8, detail_decoder="false", frozen="[E.pixels]", pretrained_rate=0.5
    )
    ours, theirs = module.optimiser_groups()["generator"][0]
    names = {id(p): n for n, p in module.system.named_parameters()}
    slow, fast = ({names[id(p)] for p in group["params"]} for group in (theirs, ours))
    assert slow and all(name.startswith("G_m.pixels.") for name in slow) and theirs["scale"] == 0.5
    assert {"G_m.pixels.17.weight", "E.linear.weight", "gain.log_gain"} <= fast
    assert not any(name.startswith("E.pixels.") for name in slow | fast)


@pytest.fixture
def shared_weights() -> None:
    if shared_file("weights/taef2/encoder.safetensors") is None:
        pytest.skip("TAEF2's weights are not below GENIC_DATA")


def test_the_paper_preset_s_layers_are_those_of_section_3_1() -> None:
    """Name, input and output channels, and side of every convolution outside the attention blocks; how many blocks."""
    config = load_config("selective_detail", ["preset=paper"]).paper()
    with torch.device("meta"):
        system, D = System(config.model), Discriminator(config.train)

    def bodies(network: nn.Sequential) -> list[tuple[int, int, int]]:
        convolutions = (m for m in network.children() for m in (m if isinstance(m, nn.Sequential) else [m]))
        return [
            (m.in_channels, m.out_channels, m.kernel_size[0])
            for m in convolutions
            if isinstance(m, nn.Conv2d)
        ]

    # An encoder body: inverse pixel shuffle (4 times the channels), residual group, 3×3.
    assert bodies(system.E) == [(12, 32, 3), (128, 64, 3), (256, 128, 3), (512, 192, 3), (192, 64, 3)]
    # A decoder body: 3×3 to 4 times the channels, residual group, pixel shuffle.
    assert bodies(system.G_m) == [(64, 192, 3), (192, 512, 3), (128, 256, 3), (64, 128, 3), (32, 12, 3)]
    assert bodies(system.G_s) == [(64, 192, 3), (192, 384, 3), (96, 256, 3), (64, 128, 3), (32, 16, 3)]
    assert bodies(D.bodies) == [(32, 32, 3), (128, 64, 3), (256, 128, 3), (512, 192, 3), (192, 1, 3)]
    assert (D.reduce.in_channels, D.reduce.out_channels) == (config.train.semantic_classes, 5)
    assert bodies(system.H_e.bodies) == [(128, 32, 3), (128, 32, 3)] and system.H_e.first.out_channels == 32
    H_d = system.H.H_d
    assert [b.conv.weight.shape for b in H_d.bodies] == [(9 * 32, 4 * 32)] * 2
    assert H_d.last.weight.shape == (9 * 32, 128)
    for network in (system.E, system.G_m, system.G_s, D.bodies):
        groups = [m for m in network.modules() if isinstance(m, ResidualGroup)]
        assert [len(group.body) - 1 for group in groups] == [6] * 4


def test_a_discriminator_given_latents_sees_both_and_trains_alone() -> None:
    module = nano(condition="latents", D="[8,8,16]", adversarial_weight=0.5, D_blocks="[]")
    x, y = batch().image, torch.randn(2, 8, 11, 11)
    scores = module.D(x, y)
    assert scores.shape == (2, 1, 11, 11)
    with torch.no_grad():
        assert not torch.equal(scores, module.D(x, -y)) and not torch.equal(scores, module.D(1 - x, y))
    recorder = Recorder(module)
    module.loss_step(batch())
    logged = recorder.logged
    assert logged["loss/total"] > 0.5 * logged["loss/adversarial"] > 0
