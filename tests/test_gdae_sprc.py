"""GDAE + SPRC: the quantiser, the dense auto-encoder, the heat map, the residual, the split, and the codecs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from genic.datamodules import make_datamodule
from genic.datamodules.batch import Batch, Sample
from genic.datamodules.images import read_image
from genic.eval.metrics import psnr_rgb
from genic.eval.runner import Task
from genic.eval.schema import ImageResult, Means
from genic.experiments import tables
from genic.experiments.config import load_config
from genic.experiments.paper_tables.gdae_sprc import ablation, figure, levels, restored, timing
from genic.lightning_modules.classical import ycbcr
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.errors import (
    ConfigError,
    DamagedFileError,
    SymbolMismatchError,
    WeightsError,
)
from genic.lightning_modules.codec.weights import as_stored, find_weights, load_weights, save_weights
from genic.lightning_modules.gdae_sprc import coded_pictures
from genic.lightning_modules.gdae_sprc.autoencoder_codec import GdaeCodec
from genic.lightning_modules.gdae_sprc.codec import GdaeSprcCodec
from genic.lightning_modules.gdae_sprc.coded_pictures import CodedPictures
from genic.lightning_modules.gdae_sprc.config import GdaeSprcCoding
from genic.lightning_modules.gdae_sprc.grad_cam import GradCam, open_classifier
from genic.lightning_modules.gdae_sprc.klt_initialisation import stage_bases
from genic.lightning_modules.gdae_sprc.latents_jpeg_xl import decode_latents, encode_latents
from genic.lightning_modules.gdae_sprc.module import GdaeSprc
from genic.lightning_modules.gdae_sprc.rate_allocation import Attempt, Base, Choices, least_cost, least_error
from genic.lightning_modules.gdae_sprc.residual import (
    cell_means,
    cell_size,
    decode_residual,
    encode_residual,
    qp_map,
)
from genic.lightning_modules.layers.soft_quantiser import SoftToHardQuantiser
from genic.lightning_modules.registry import open_codec
from genic.losses.gan import saturating_generator, softplus_discriminator, softplus_generator
from genic.losses.pretrained import SHARED_WEIGHTS
from genic.losses.ssim import ssim
from tests import helpers
from tests.helpers import photograph
from tests.recorder import Recorder

nano = partial(helpers.nano, "gdae_sprc")


def ramp(height: int, width: int) -> np.ndarray:
    """Heat from 0 at the left to 1 at the right."""
    return np.repeat(np.linspace(0, 1, width, dtype=np.float32)[None], height, axis=0)


@pytest.fixture(scope="module")
def module() -> GdaeSprc:
    """Trained on one picture, so that x̂ and the levels mean something."""
    module = nano()
    x = torch.from_numpy(photograph(128, 160)).permute(2, 0, 1)[None].float() / 255
    optimiser = torch.optim.Adam(module.system.parameters(), lr=5e-3)
    for _ in range(60):
        level = torch.rand(1)
        x_hat, rate = module.system(x, level, 1.0, 0.01)
        loss = 100 * F.mse_loss(x_hat, x) + (rate.latents + rate.hyper_latents).mean() / x[0, 0].numel()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return module


@pytest.fixture(scope="module")
def sprc(module: GdaeSprc) -> GdaeSprcCodec:
    return module.codec()


class TestQuantiser:
    def test_forward_is_the_nearest_centre(self):
        quantiser = SoftToHardQuantiser(5)
        with torch.no_grad():
            quantiser.centres.copy_(torch.tensor([3.0, -2.0, 0.1, 1.0, -0.9]))  # out of order, uneven
        z = torch.linspace(-4, 4, 101)
        quantised = quantiser(z, 1.0)
        c = torch.tensor([-2.0, -0.9, 0.1, 1.0, 3.0])
        nearest = (z[:, None] - c).abs().argmin(1)
        torch.testing.assert_close(quantised.z_hat, c[nearest])
        assert torch.equal(quantised.index, nearest.float() - 2)
        assert torch.equal(quantiser.index(z), quantised.index)
        assert torch.equal(quantiser.values(quantised.index), c[nearest])

    def test_backward_is_the_softmax_s_gradient(self):
        quantiser = SoftToHardQuantiser(3)
        z = torch.tensor([-0.8, 0.3, 0.45], requires_grad=True)
        quantiser(z, 2.0).z_hat.square().sum().backward()
        again, centres = (
            z.detach().clone().requires_grad_(),
            torch.tensor([-1.0, 0.0, 1.0], requires_grad=True),
        )
        q = torch.softmax(-2.0 * (again[:, None] - centres) ** 2, 1)
        soft = (q * centres).sum(1)
        # d(z_hat²) = 2·z_hat·d(soft), with the hard value in front.
        (soft * 2 * quantiser(again, 2.0).z_hat.detach()).sum().backward()
        torch.testing.assert_close(z.grad, again.grad)
        torch.testing.assert_close(quantiser.centres.grad, centres.grad)

    def test_the_soft_assignment_is_over_the_centres_nearby(self):
        quantiser, z = SoftToHardQuantiser(45), torch.linspace(-24, 24, 193, requires_grad=True)
        quantised = quantiser(z, 1.0)
        quantised.z_hat.sum().backward()
        again, c = z.detach().clone().requires_grad_(), torch.arange(45) - 22.0
        soft = (torch.softmax(-((again[:, None] - c) ** 2), 1) * c).sum(1)
        soft.sum().backward()
        torch.testing.assert_close(z.grad, again.grad, atol=2e-3, rtol=0)  # of all 45, to e^−6
        torch.testing.assert_close(quantised.soft_index, soft, atol=2e-3, rtol=0)
        assert torch.equal(quantised.index, quantiser.index(z.detach()))

    def test_the_temperature_is_annealed_by_batches(self):
        module = nano(sigma=1.0, sigma_to=5.0, anneal_batches=4)
        found = []
        for _ in range(6):
            found.append(module.sigma)
            module.batches_seen += 1
        assert found == [1.0, 2.0, 3.0, 4.0, 5.0, 5.0]


class TestDenseAutoEncoder:
    def test_every_stage_feeds_every_later_one_inside_its_half(self):
        module = nano()
        counts = [stage.first.in_channels for stage in module.system.E.stages]
        assert counts == [12, 16, 32 + 2]  # 4 × predecessor, and 2 from each stage before it
        assert module.system.E.last.in_channels == 8 + 2 * 2
        assert [stage.first.in_channels for stage in module.system.G.stages] == [8, 4 + 2]
        assert module.system.G.last.in_channels == 4 + 2 * 2
        plain = nano(dense="false")
        assert len(plain.system.E.connections) == len(plain.system.G.connections) == 0
        assert plain.system.E.last.in_channels == 8
        x = torch.rand(1, 3, 24, 40)
        for each in (module, plain):
            z = each.system.latents(x, torch.zeros(1))
            assert z.shape == (1, 6, 3, 5)
            assert each.system.reconstruct(z, torch.zeros(1)).shape == x.shape

    def test_nothing_passes_the_latents(self, sprc):
        """The encoder is replaced after `encode`; the picture is the same, the encoding is not."""
        codec, image = nano().codec(), photograph(40, 56)
        data = codec.encode(image, 20, level=1, strength=0.0)
        picture = codec.decode(data)
        for parameter in codec.system.E.parameters():
            parameter.fill_(0.3)
        for parameter in codec.system.H_e.parameters():
            parameter.fill_(0.1)
        np.testing.assert_array_equal(codec.decode(data), picture)
        assert codec.encode(image, 20, level=1, strength=0.0) != data


class TestPublication:
    """Preset ``paper`` against the slides, which give parts, losses and data; widths are ours and pinned here."""

    @pytest.fixture()
    def paper(self) -> GdaeSprc:
        config = load_config("gdae_sprc", ["preset=paper"])
        with torch.device("meta"):
            return GdaeSprc(config.paper())

    def test_its_parts_and_losses_are_the_slides(self, paper):
        data, train = load_config("gdae_sprc", ["preset=paper"]).data, paper.config.train
        assert (train.mse_weight, train.adversarial_weight, train.ssim_weight) == (10, 5, 2)
        assert (data.name, data.crop, data.scale_min, data.scale_max) == ("imagenet", 256, 0.5, 2.0)
        assert paper.config.model.levels == 1 and train.rate_weight == [0.0]  # no rate term
        assert paper.config.coding.top_k == 1
        # Encoder, quantiser and decoder of the file; the entropy model is ours, beside JPEG XL for FLIF.
        assert {name for name, _ in paper.system.named_children()} == {"E", "gain", "Q", "G", "H_e", "H"}
        assert paper.D is not None

    def test_its_layers(self, paper):
        def layers(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
            found = ((n, m) for n, m in network.named_modules() if isinstance(m, torch.nn.Conv2d))
            return {n: (m.in_channels, m.out_channels, m.kernel_size[0]) for n, m in found}

        def stage(name: str, a: int, b: int) -> dict[str, tuple[int, ...]]:
            return {
                f"{name}.first": (a, b, 3),
                f"{name}.residual.1": (b, b, 3),
                f"{name}.residual.3": (b, b, 3),
            }

        # Every stage feeds every later one of its half: the next one whole, the others by 32 channels each.
        encoder = stage("stages.0", 12, 64) | stage("stages.1", 256, 96) | stage("stages.2", 384 + 32, 128)
        encoder |= stage("stages.3", 512 + 64, 192)
        encoder |= {f"connections.{k}": (w, 32, 1) for k, w in enumerate((64, 96, 128))}
        encoder |= {"last": (192 + 96, 64, 3)}
        decoder = stage("first", 64, 192) | stage("stages.0", 128, 128) | stage("stages.1", 96 + 32, 96)
        decoder |= stage("stages.2", 64 + 64, 64)
        decoder |= {f"up.{k}": (a, 4 * b, 1) for k, (a, b) in enumerate(((192, 128), (128, 96), (96, 64)))}
        decoder |= {f"connections.{k}": (w, 32, 1) for k, w in enumerate((192, 128, 96))}
        decoder |= {"last": (64 + 96, 12, 3)}
        assert layers(paper.system.E) == encoder and layers(paper.system.G) == decoder
        assert list(layers(paper.D).values()) == [
            (3, 64, 4),
            (64, 128, 4),
            (128, 256, 4),
            (256, 512, 4),
            (512, 1, 3),
        ]
        assert paper.system.Q.centres.shape == (7,)
        sizes = [
            sum(p.numel() for p in part.parameters()) for part in (paper.system.E, paper.system.G, paper.D)
        ]
        assert sizes == [3_077_440, 1_845_772, 2_761_153]


class TestKltInitialisation:
    def test_it_starts_as_an_orthonormal_transform_and_its_inverse(self):
        bases = stage_bases([3, 12, 20])
        torch.testing.assert_close(bases[0] @ bases[0].T, torch.eye(12), atol=1e-5, rtol=0)
        torch.testing.assert_close(bases[1].T @ bases[1], torch.eye(20), atol=1e-5, rtol=0)
        system = nano(E="[12,48]", G="[48,12]", latents=48).system
        x, level = torch.rand(1, 3, 24, 40), torch.tensor([1.5])
        # As many latents as samples: nothing is lost but by the quantiser.
        torch.testing.assert_close(system.reconstruct(system.latents(x, level), level), x, atol=1e-4, rtol=0)

    def test_few_latents_keep_most_of_a_picture(self):
        x = torch.from_numpy(photograph(128, 160)).permute(2, 0, 1)[None].float() / 255
        level = torch.ones(1)
        for dense in ("true", "false"):
            system = nano(dense=dense).system
            x_hat = system.reconstruct(system.latents(x, level), level)
            assert F.mse_loss(x_hat, x) < 0.15 * x.var()  # 6 of 192 numbers


class TestTraining:
    def test_a_step_s_losses_are_the_slides(self):
        module = nano(sigma_to=1.0, levels=1, rate_weight="[0.0]")
        recorder = Recorder(module)
        x = torch.from_numpy(np.stack([photograph(64, 64)] * 2)).permute(0, 3, 1, 2).float() / 255
        torch.manual_seed(5)
        module.loss_step(Batch(x))
        torch.manual_seed(5)
        level = torch.rand(2) * 0
        x_hat, rate = module.system(x, level, 1.0, 0.0)
        real, fake = module.D(x), module.D(x_hat)
        bpp = (rate.latents + rate.hyper_latents).mean() / 64**2
        expected = (
            10 * F.mse_loss(x_hat, x)
            + 5 * softplus_generator(fake)
            + 2 * (1 - ssim(x, x_hat, reduction="mean"))
            + bpp
        )
        assert recorder.logged["loss/total"] == pytest.approx(expected.item(), rel=1e-5)
        assert recorder.logged["loss/discriminator"] == pytest.approx(
            softplus_discriminator(real, fake).item(), rel=1e-5
        )
        assert recorder.logged["rate/bpp_estimated"] == pytest.approx(bpp.item(), rel=1e-4)
        assert all(p.grad is not None for p in [*module.system.parameters(), *module.D.parameters()])

    def test_the_printed_saturating_loss_is_selectable(self):
        module = nano(gan_loss="saturating")
        assert module.gan_loss.generator is saturating_generator
        with pytest.raises(ConfigError, match="softplus"):
            load_config("gdae_sprc", ["preset=nano", "train.gan_loss=printed"])

    @pytest.mark.parametrize("weight", [0.0, 3.0])
    def test_the_rate_s_weight_is_the_encoder_s_alone(self, weight):
        module = nano()
        x = torch.rand(1, 3, 32, 32)
        gradients = []
        for factor in (1.0, weight):
            module.zero_grad()
            torch.manual_seed(1)
            module.system(x, torch.zeros(1), 1.0, factor).rate.latents.sum().backward()
            gradients.append(
                (module.system.E.last.weight.grad.clone(), module.system.H.context.out.weight.grad.clone())
            )
        (encoder, entropy), (scaled, same) = gradients
        torch.testing.assert_close(scaled, weight * encoder, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(same, entropy)
        assert encoder.abs().max() > 0

    def test_without_a_gan_there_is_no_discriminator(self):
        module = nano(adversarial_weight=0)
        assert module.D is None and list(module.optimiser_groups()) == ["generator"]


class TestGradCam:
    @pytest.fixture()
    def classifier(self) -> GradCam:
        torch.manual_seed(0)
        return GradCam("resnet10t", None, side=96)

    def test_it_is_grad_cam_as_the_library_has_it(self, classifier):
        library = pytest.importorskip("pytorch_grad_cam")
        targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
        _compare_with_library(library, targets, classifier, classifier.classifier.network.layer4[-1])

    def test_on_the_shared_classifier(self):
        library = pytest.importorskip("pytorch_grad_cam")
        targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
        path = _shared()
        classifier = open_classifier(f"mobilenetv2_100:{path}")
        _compare_with_library(library, targets, classifier, classifier.classifier.network.bn2)

    def test_vgg16_s_last_convolution(self):
        library = pytest.importorskip("pytorch_grad_cam")
        targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
        torch.manual_seed(0)
        classifier = GradCam("vgg11", None, layer="features.19", side=224)
        network = classifier.classifier.network
        assert isinstance(network.features[19], torch.nn.ReLU)
        _compare_with_library(library, targets, classifier, network.features[19])

    def test_several_classes_are_their_greatest_heat(self, classifier):
        x = torch.from_numpy(photograph(96, 128)).permute(2, 0, 1)[None].float() / 255
        network = classifier.classifier
        with torch.no_grad():
            top = network.network((x - network.mean) / network.std).topk(3).indices[0]
        several = GradCam("resnet10t", None, top_k=3)
        several.classifier.load_state_dict(network.state_dict())
        singles = []
        for c in top:
            features, scores = several._features_and_scores(x)
            (g,) = torch.autograd.grad(scores[0, c], features)
            heat = (g.mean((2, 3), keepdim=True) * features).sum(1)[0].detach().relu()
            singles.append((heat - heat.min()) / (heat - heat.min()).max())
        torch.testing.assert_close(several.map(x), torch.stack(singles).amax(0))

    def test_any_shape_of_picture(self, classifier):
        for height, width in ((1, 1), (3, 700), (150, 90)):
            heat = classifier(np.full((height, width, 3), 77, np.uint8))
            assert heat.shape == (height, width) and heat.min() >= 0 and heat.max() <= 1

    def test_errors_name_the_remedy(self, monkeypatch, tmp_path):
        monkeypatch.setenv("GENIC_DATA", str(tmp_path))
        with pytest.raises(WeightsError, match="GENIC_DATA"):
            open_classifier("mobilenetv2_100")
        with pytest.raises(ConfigError, match="named_modules"):
            GradCam("resnet10t", None, layer="layer9")


class TestResidual:
    def test_quality_is_linear_in_the_heat(self):
        heat = np.linspace(0, 1, 64)[None].repeat(64, 0)
        qp = qp_map(15.0, heat, 8.0)
        columns = qp.mean(0)  # the dither's mean is the exact value
        np.testing.assert_allclose(columns, 36 - 8 * (heat[0] - 0.5), atol=0.15)
        assert qp_map(15.25, heat, 0.0).mean() == pytest.approx(35.75, abs=0.02)
        assert (qp_map(15.0, heat, 0.0) == 36).all()
        assert qp_map(0.0, heat, 30.0).max() == 51 and qp_map(51.0, heat, 30.0).min() == 0

    def test_cells(self):
        assert cell_size(512, 768) == 32 and cell_size(8192, 100) == 256 and cell_size(1025, 3) == 64
        heat = ramp(40, 70)
        means = cell_means(heat)
        assert means.shape == (2, 3)
        np.testing.assert_allclose(
            means[1], [heat[0, :32].mean(), heat[0, 32:64].mean(), heat[0, 64:].mean()]
        )

    @pytest.mark.parametrize("size", [(1, 1), (17, 33), (64, 96)])
    def test_it_comes_back(self, size):
        height, width = size
        residual = np.random.default_rng(0).integers(-40, 40, (3, height, width)).astype(np.int16)
        cells = cell_means(np.zeros(size))
        fine, coarse = (encode_residual(residual, qp_map(q, cells, 0.0)) for q in (48.0, 10.0))
        error = np.abs(decode_residual(fine, height, width) - residual)
        assert error.mean() < 1.0 and len(coarse) <= len(fine)

    def test_what_lies_beyond_128_is_clipped(self):
        residual = np.full((3, 32, 32), 200, np.int16)
        stream = encode_residual(residual, np.full((1, 1), 20))
        assert np.abs(decode_residual(stream, 32, 32) - 127).max() <= 1

    def test_offsets_reach_their_cells(self):
        residual = np.random.default_rng(0).normal(0, 20, (3, 128, 256)).astype(np.int16)
        qp = np.full((4, 8), 38)
        qp[:, 4:] = 24
        error = (decode_residual(encode_residual(residual, qp), 128, 256) - residual).astype(float) ** 2
        assert error[..., 160:].mean() < error[..., :96].mean() / 4

    def test_every_qp_is_reached(self):
        # Smooth, so that none is as large as the samples themselves (which HEVC then stores).
        rows, columns = np.indices((64, 64))
        residual = np.stack([20 * np.sin(rows / 3 + k) * np.cos(columns / 4) for k in range(3)]).astype(
            np.int16
        )
        sizes = [len(encode_residual(residual, np.full((2, 2), qp))) for qp in (0, 5, 12, 30, 51)]
        assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 5

    def test_false_sizes_are_refused(self):
        stream = encode_residual(np.zeros((3, 40, 40), np.int16), np.full((2, 2), 30))
        with pytest.raises(DamagedFileError):
            decode_residual(stream, 80, 40)


class TestRateAllocation:
    """On a made-up world: bytes and error are functions of base and quality."""

    @staticmethod
    def world(
        saved: Sequence[float], fixed: Sequence[int] | None = None, restored: float | None = None
    ) -> tuple[Choices, list]:
        """Base k has ``fixed[k]`` bytes (100·k) and makes each quality's residual cheaper by the share ``saved[k]``.
        With restoration, three bytes, the share ``restored`` of the error is left."""
        tried = []
        fixed = [100 * k for k in range(len(saved))] if fixed is None else fixed

        def attempt(base: Base, quality: float) -> list[Attempt]:
            k = base.x_hat
            tried.append((k, quality))
            residual = bytes(int(1000 * 2 ** ((quality - 16) / 6) * (1 - saved[k])))
            sections, size = base.sections | {"residual": residual}, fixed[k] + len(residual)
            error = 1e6 * 2 ** (-quality / 3)
            found = [Attempt(sections, size, error, quality)]
            if restored is not None:
                found.append(Attempt(sections | {"restoration": b"!"}, size + 3, restored * error, quality))
            return found

        bases = (Base({"latents": bytes(n)} if n else {}, k) for k, n in enumerate(fixed))
        return Choices(bases, attempt, lambda sections: sum(map(len, sections.values()))), tried

    @pytest.mark.parametrize("budget", [500, 1000, 3000])
    def test_the_budget_is_used_and_never_exceeded(self, budget):
        choices, tried = self.world([0.0] * 4)
        best = least_error(choices, budget)
        assert 0.97 * budget < best.size <= budget
        assert set(best.sections) == {"residual"}  # useless latents are not bought
        assert len(tried) <= 14

    def test_useful_latents_are_bought(self):
        choices, _ = self.world([0.0, 0.2, 0.36, 0.49])
        assert len(least_error(choices, 3000).sections["latents"]) == 300

    @pytest.mark.parametrize("best", range(6))
    def test_the_best_level_may_come_after_worse_ones(self, best):
        saved = [0.0] * 6
        saved[best] = 0.7  # 500 bytes of latents at most, against 2100 of residual
        choices, tried = self.world(saved)
        found = least_error(choices, 3000)
        assert len(found.sections.get("latents", b"")) == 100 * best and 2900 < found.size <= 3000
        assert {k for k, _ in tried} == set(range(6))
        choices, _ = self.world(saved)
        assert len(least_cost(choices, 24.0).sections.get("latents", b"")) == 100 * best

    def test_a_base_beyond_the_budget_does_not_end_the_search(self):
        choices, tried = self.world([0.0, 0.0, 0.6, 0.6], [0, 5000, 400, 4000])
        assert len(least_error(choices, 3000).sections["latents"]) == 400
        assert {k for k, _ in tried} == {0, 2}  # what cannot fit costs no residual

    @pytest.mark.parametrize(("left", "chosen"), [(0.5, True), (1.0, False), (1.05, False)])
    def test_restoration_is_chosen_where_it_pays(self, left, chosen):
        for saved in ([0.0], [0.0, 0.3]):
            plain, restored = (self.world(saved, restored=share)[0] for share in (None, left))
            a, b = least_error(plain, 3000), least_error(restored, 3000)
            assert ("restoration" in b.sections) is chosen and b.error <= a.error and b.size <= 3000
            plain, restored = (self.world(saved, restored=share)[0] for share in (None, left))
            assert ("restoration" in least_cost(restored, 24.0).sections) is chosen

    def test_where_nothing_fits_it_is_the_smallest(self):
        choices, _ = self.world([0.0, 0.9, 0.0])
        found = least_error(choices, 20)
        assert found.quality == 0 and found.size == 100 + 15  # 1000·2^(−16/6)·0.1


class TestCodec:
    def test_both_lossless_coders_carry_the_same_latents(self, sprc):
        image = photograph(128, 160)
        sizes = sprc.latent_sizes(image, 1)
        assert set(sizes) == {"jpeg_xl", "learned"}
        files = {
            coder: sprc.encode(image, level=1, strength=0.0, latents=coder) for coder in ("best", *sizes)
        }
        pictures = [sprc.decode(data) for data in files.values()]
        np.testing.assert_array_equal(pictures[0], pictures[1])
        np.testing.assert_array_equal(pictures[0], pictures[2])
        for coder, size in sizes.items():
            ledger = Container.from_bytes(files[coder]).ledger()
            assert size == sum(ledger.values()) - ledger["header"] - ledger["residual"]
        assert len(files["best"]) == min(len(files["jpeg_xl"]), len(files["learned"]))
        with pytest.raises(ConfigError, match="jpeg_xl"):
            sprc.encode(image, level=1, strength=0.0, latents="flif")

    def test_jpeg_xl_is_lossless(self):
        index = np.random.default_rng(0).integers(-4, 5, (7, 3, 5))
        stream = encode_latents(index, 4)
        np.testing.assert_array_equal(decode_latents(stream, (7, 3, 5), 4), index)
        with pytest.raises(DamagedFileError):
            decode_latents(stream, (7, 30, 5), 4)

    def test_without_latents_the_residual_is_of_grey(self, sprc):
        image = np.full((40, 56, 3), 128, np.uint8)  # nothing that latents could help with
        data = sprc.encode(image, 20, strength=0.0)
        assert set(Container.from_bytes(data).ledger()) == {"header", "residual"}
        assert np.abs(sprc.decode(data).astype(int) - image).max() <= 1
        assert "latents" in Container.from_bytes(sprc.encode(image, 20, level=0, strength=0.0)).ledger()

    def test_altered_latents_are_a_typed_error(self, sprc):
        container = Container.from_bytes(
            sprc.encode(photograph(128, 160), level=1, strength=0.0, latents="jpeg_xl")
        )
        parameters = container.sections["parameters"]
        container.sections["parameters"] = parameters[:1] + bytes([parameters[1] ^ 1]) + parameters[2:]
        with pytest.raises(SymbolMismatchError):
            sprc.decode(container.to_bytes())

    def test_quality_is_one_curve_of_one_model(self, sprc):
        image = photograph(128, 160)
        points = []
        for quality in (6, 15, 30, 45):
            data = sprc.encode(image, quality, strength=0.0)
            points.append((len(data), psnr_rgb(image, sprc.decode(data))))
        assert points == sorted(points) and points[-1][1] > 38
        with pytest.raises(ConfigError, match="0 to 51"):
            sprc.encode(image, 52)
        with pytest.raises(ConfigError, match="level"):
            sprc.encode(image, 20, level=7, strength=0.0)

    @pytest.mark.parametrize("bpp", [0.6, 1.5])
    def test_a_budget_is_kept_and_its_split_beats_the_fixed_ones(self, sprc, bpp):
        image, codec = photograph(128, 160), sprc
        data = codec.encode(image, target_bpp=bpp, strength=0.0)
        budget = bpp * image.shape[0] * image.shape[1] / 8
        assert 0.95 * budget < len(data) <= budget
        best = psnr_rgb(image, codec.decode(data))
        for level in (0, 1):
            fixed = codec.encode(image, target_bpp=bpp, strength=0.0, level=level)
            assert len(fixed) <= budget and psnr_rgb(image, codec.decode(fixed)) <= best + 1e-9
        with pytest.raises(ConfigError, match="budget"):
            codec.encode(image, target_bpp=0.01, strength=0.0)
        with pytest.raises(ConfigError, match="positive"):
            codec.encode(image, target_bpp=0.0, strength=0.0)

    def test_hot_places_are_better_at_the_same_bytes(self, sprc):
        image = photograph(128, 160)
        heat = ramp(*image.shape[:2])
        uniform = sprc.encode(image, target_bpp=1.0, strength=0.0)
        bpp = 8 * len(uniform) / (image.shape[0] * image.shape[1])
        adaptive = sprc.encode(image, target_bpp=bpp, heat=heat, strength=10.0)
        assert len(adaptive) <= len(uniform)
        hot = heat >= 0.5
        errors = [((image.astype(float) - sprc.decode(d)) ** 2)[hot].mean() for d in (adaptive, uniform)]
        assert errors[0] < errors[1]
        with pytest.raises(ConfigError, match="heat is"):
            sprc.encode(image, heat=heat[:5])

    def test_without_a_classifier_quality_is_uniform_and_it_says_so(self, module, monkeypatch):
        monkeypatch.delenv("GENIC_DATA", raising=False)
        codec, image = module.codec(), photograph(40, 56)
        with pytest.warns(UserWarning, match="GENIC_DATA"):
            data = codec.encode(image, 20)
        assert data == codec.encode(image, 20, strength=0.0)

    def test_results_name_what_made_the_heat_map(self, sprc, monkeypatch, tmp_path):
        shared = _shared().parents[1]
        torch.manual_seed(0)
        network = timm.create_model("resnet10t")
        names = []
        for k in range(2):
            with torch.no_grad():
                network.conv1[0].weight.mul_(1 + k)
            names.append(f"resnet10t:{tmp_path / str(k)}.safetensors")
            save_file(network.state_dict(), names[k].partition(":")[2])
        monkeypatch.delenv("GENIC_DATA", raising=False)
        found = [sprc.coding_options(classifier=name)["heat"] for name in names]
        assert all("resnet10t" in text for text in found) and found[0] != found[1]
        assert sprc.coding_options(classifier=names[0], top_k=2)["heat"] not in found
        assert sprc.coding_options()["heat"] == "none: uniform quality"
        monkeypatch.setenv("GENIC_DATA", str(shared))
        assert "mobilenetv2_100" in sprc.coding_options()["heat"]

    def test_a_classifier_told_to_one_call_does_not_stay(self, sprc, module, tmp_path, monkeypatch):
        """Codecs of the same weights are one object in a process."""
        monkeypatch.delenv("GENIC_DATA", raising=False)
        torch.manual_seed(0)
        file, path = tmp_path / "classifier.safetensors", tmp_path / "weights.safetensors"
        save_file(timm.create_model("resnet10t").state_dict(), file)
        save_weights(path, module.export_weights(), module.metadata())
        image = photograph(64, 80)
        how = {"classifier": f"resnet10t:{file}", "level": "none", "strength": 20.0}
        one, other = GdaeSprcCodec.load(path), GdaeSprcCodec.load(path)
        hot = one.encode(image, 20, **how)
        with pytest.warns(UserWarning, match="uniform"):
            uniform = other.encode(image, 20, level="none", strength=20.0)
        assert uniform == other.encode(image, 20, level="none", strength=0.0) != hot
        assert one.encode(image, 20, **how) == hot

    def test_gdae_alone(self, module, tmp_path):
        path = tmp_path / "weights.safetensors"
        save_weights(path, module.export_weights(), module.metadata())
        alone, image = GdaeCodec.load(path), photograph(128, 160)
        assert alone.weights_id == GdaeSprcCodec.load(path).weights_id
        low, high = (alone.encode(image, level) for level in alone.qualities)
        assert len(low) < len(high)
        assert psnr_rgb(image, alone.decode(low)) < psnr_rgb(image, alone.decode(high))
        assert "residual" not in Container.from_bytes(high).ledger()
        between = alone.encode(image, target_bpp=8 * (len(low) + 20) / image[..., 0].size)
        assert len(low) <= len(between) <= len(low) + 20
        with pytest.raises(ConfigError, match="smallest file"):
            alone.encode(image, target_bpp=0.001)


QUICK = GdaeSprcCoding(strength=0.0, effort="ultrafast")


def coded(folder: Path, qps: Sequence[int] = (32,), coding: GdaeSprcCoding = QUICK) -> CodedPictures:
    return CodedPictures(folder, tuple(qps), 768, 0, coding)


@pytest.fixture(scope="module")
def restoring(tmp_path_factory) -> GdaeSprc:
    """R trained on one picture at one QP, which it restores a little."""
    module = nano(R=8, R_blocks=1, part="restoration", levels=1, rate_weight="[0.0]")
    sample = coded(tmp_path_factory.mktemp("coded"), [38])(Sample(photograph(128, 160)), 0)
    planes = torch.from_numpy(sample.planes).permute(2, 0, 1)[None]
    batch = Batch(torch.from_numpy(sample.image).permute(2, 0, 1)[None].float() / 255, planes=planes)
    optimiser = torch.optim.Adam(module.restoration.parameters(), lr=3e-3)
    for _ in range(60):
        found = module.restored(batch)
        optimiser.zero_grad()
        (255 * (found.picture - batch.image)).square().mean().backward()
        optimiser.step()
    return module


class TestRestoration:
    def test_it_starts_as_no_correction_of_planes_that_are_rounded_once(self):
        R = nano(R=8, R_blocks=1).system.R
        planes = ycbcr.from_rgb(photograph(32, 48))
        with torch.no_grad():
            picture = R(torch.from_numpy(planes)[None].float(), torch.tensor([37.0]))[0].permute(1, 2, 0)
        wanted = ycbcr.to_rgb(planes)
        assert np.abs((255 * picture).clamp(0, 255).numpy() - wanted).max() <= 0.501

    def test_a_step_s_loss_is_the_squared_error_weighted_by_the_qp_of_the_place(self):
        module = nano(R=4, R_blocks=1, part="restoration")
        assert module.D is None and module.networks() == [module.system.R]
        recorder, rng = Recorder(module), np.random.default_rng(0)
        x = np.stack([photograph(16, 16)] * 2)
        noisy = np.clip(x.astype(int) + rng.integers(-9, 10, x.shape), 0, 255).astype(np.uint8)
        planes, qps = np.stack([ycbcr.from_rgb(picture) for picture in noisy]), np.array([28, 40])
        place = qps[:, None, None] + np.where(np.arange(16) < 8, -3, 3)[None, None]  # hot at the left
        places = np.broadcast_to(place, (2, 16, 16))
        of_picture = np.broadcast_to(qps[:, None, None], (2, 16, 16))
        all_planes = np.concatenate([planes, places[:, None], of_picture[:, None]], 1).astype(np.uint8)
        image = torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255
        module.loss_step(Batch(image, planes=torch.from_numpy(all_planes)))
        # R starts as no correction: what is left is the planes' own error.
        y, cb, cr = planes.transpose(1, 0, 2, 3) - np.array([0.0, 128, 128])[:, None, None, None]
        r, b = y + 1.402 * cr, y + 1.772 * cb
        error = x - np.stack([r, (y - 0.299 * r - 0.114 * b) / 0.587, b], -1)
        step = 2 ** ((qps - 4) / 6)
        weight = np.where(np.arange(16) < 8, 2.0, 0.5)[None, None, :, None]
        expected = np.mean((weight * error**2).mean((1, 2, 3)) / step)
        assert recorder.logged["loss/total"] == pytest.approx(expected, rel=1e-4)
        assert recorder.logged["loss/gain_db"] == pytest.approx(0, abs=1e-5)
        trained = {n for n, p in module.system.named_parameters() if p.grad is not None}
        assert trained and all(name.startswith("R.") for name in trained)

    def test_pictures_are_coded_once(self, tmp_path, monkeypatch):
        image, calls = photograph(50, 70), []
        encode = coded_pictures.encode_residual
        monkeypatch.setattr(coded_pictures, "encode_residual", lambda *how: calls.append(how) or encode(*how))
        pictures = coded(tmp_path)
        sample = pictures(Sample(image), 0)
        np.testing.assert_array_equal(pictures(Sample(image), 1).planes, sample.planes)
        assert len(calls) == 1 and sample.planes.shape == (50, 70, 5) and (sample.planes[..., 3:] == 32).all()
        stream = encode_residual(
            ycbcr.from_rgb(image).astype(np.int16) - 128, np.full((2, 3), 32), "ultrafast"
        )
        decoded = decode_residual(stream, 50, 70) + 128
        np.testing.assert_array_equal(sample.planes[..., :3], decoded.transpose(1, 2, 0))
        (kept,) = tmp_path.rglob("*.gnc")
        kept.write_bytes(kept.read_bytes()[:-9])  # cut off
        np.testing.assert_array_equal(pictures(Sample(image), 0).planes, sample.planes)
        coded(tmp_path, [33])(Sample(image), 0)
        coded(tmp_path, coding=GdaeSprcCoding(strength=0.0, effort="superfast"))(Sample(image), 0)
        pictures(Sample(image[:, ::-1]), 0)
        assert len(calls) == 5 and len(list(tmp_path.rglob("*.gnc"))) == 4

    def test_their_qp_follows_the_heat_map(self, tmp_path, monkeypatch):
        class Ramp:
            description = "a ramp"

            def __call__(self, image):
                return ramp(*image.shape[:2])

        monkeypatch.setattr(coded_pictures, "classifier_at_hand", lambda name, top_k: Ramp())
        coding = GdaeSprcCoding(strength=12.0, effort="ultrafast")
        image = photograph(64, 96)
        planes = coded(tmp_path, coding=coding)(Sample(image), 0).planes
        wanted = qp_map(51 - 32, cell_means(ramp(64, 96)), 12.0)
        np.testing.assert_array_equal(planes[::32, ::32, 3], wanted)
        assert wanted[0, 0] > 32 > wanted[0, -1] and (planes[..., 4] == 32).all()

    def test_training_reads_coded_pictures(self, tmp_path):
        def made(*settings: str) -> tuple:
            given = ["preset=nano", "model.R=4", "model.R_blocks=1", "train.part=restoration", *settings]
            given += ["coding.effort=ultrafast", "coding.strength=0", f"train.coded={tmp_path}"]
            config = load_config("gdae_sprc", given)
            return GdaeSprc(config.paper()), make_datamodule(config.data)

        module, data = made()
        with pytest.raises(ConfigError, match="scale"):
            module.check_data(data)
        sizes = ("data.scale_min=1", "data.scale_max=1", "data.min_side=64", "train.coded_side=64")
        module, data = made(*sizes)
        module.check_data(data)
        recorder = Recorder(module)
        for loader in (data.train_dataloader(), data.val_dataloader()):
            batch = next(iter(loader))
            assert batch.planes.shape[1:] == (5, 64, 64) and batch.planes.dtype == torch.uint8
            # The same places: the luma plane is the picture's.
            luma = (batch.image * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
            assert (255 * luma - batch.planes[:, 0]).abs().mean() < 8
        module.loss_step(batch)
        assert recorder.logged["loss/total"] > 0
        assert set(module.panels(batch)) == {"x", "HEVC", "restored"}

    def test_a_file_says_that_it_is_restored_and_is_no_worse(self, restoring):
        codec, image = restoring.codec(), photograph(128, 160)
        how = {"strength": 0.0, "effort": "ultrafast"}
        plain, data = (codec.encode(image, 13.0, **how, restore=on) for on in (False, True))
        assert set(Container.from_bytes(plain).sections) == {"residual"}
        assert Container.from_bytes(data).sections == {
            "residual": Container.from_bytes(plain).sections["residual"],
            "restoration": bytes([190]),
        }
        assert len(data) == len(plain) + 3 and codec.info(data).settings["restored at QP"] == 38
        assert psnr_rgb(image, codec.decode(data)) > psnr_rgb(image, codec.decode(plain)) + 0.1
        # Elsewhere it was not trained: whatever is chosen, the choice costs nothing.
        for other in (photograph(41, 57), np.full((40, 56, 3), 128, np.uint8)):
            files = [codec.encode(other, target_bpp=1.0, **how, restore=on) for on in (False, True)]
            errors = [((codec.decode(file).astype(int) - other) ** 2).sum() for file in files]
            assert errors[1] <= errors[0] and len(files[1]) <= other[..., 0].size / 8

    def test_tiles_leave_no_seams(self, restoring, monkeypatch):
        codec, planes = restoring.codec(), ycbcr.from_rgb(photograph(75, 91))
        whole = codec.restore(planes, 190)
        monkeypatch.setattr("genic.lightning_modules.gdae_sprc.codec.TILE", 16)
        assert np.abs(codec.restore(planes, 190).astype(int) - whole).max() <= 1

    def test_weights_without_it_stay_what_they_are(self, sprc):
        codec, image = GdaeSprcCodec.load("small"), photograph(40, 56)
        assert codec.weights_id.hex() == "b17145cc" and codec.system.R is None
        assert "restore" not in codec.coding_options(strength=0.0)
        data = sprc.encode(image, 20, strength=0.0)
        assert "restoration" not in Container.from_bytes(data).sections
        container = Container.from_bytes(data)
        container.sections["restoration"] = b"\x7f"
        with pytest.raises(DamagedFileError, match="restoration"):
            sprc.decode(container.to_bytes())

    def test_all_but_r_starts_from_the_shipped_weights_and_stays(self):
        module = GdaeSprc(
            load_config("gdae_sprc", ["preset=restored", "model.R=4", "model.R_blocks=1"]).paper()
        )
        tensors, metadata = load_weights(find_weights("gdae_sprc", module.config.train.initialise_from))
        taken, parameters = module.initialise_from(tensors, metadata)
        assert parameters - taken == len(list(module.restoration.parameters()))
        assert {name for name, p in module.named_parameters() if p.requires_grad} == {
            f"system.R.{name}" for name, _ in module.restoration.named_parameters()
        }
        exported = as_stored(module.export_weights())
        assert all(torch.equal(exported[name], tensor) for name, tensor in tensors.items())


class TestCommands:
    def test_parts_are_found_by_name(self, capsys):
        assert tables.main(["gdae_sprc", "ablatoin"]) == 2
        assert "did you mean 'ablation'" in capsys.readouterr().err
        assert tables.main(["gdae_sprc", "--codec", "jpeg"]) == 2  # the first part
        assert "gdae_sprc, not of 'jpeg'" in capsys.readouterr().err

    def test_the_ablation_has_eight_rows_and_says_what_it_finds(self, tmp_path, capsys, monkeypatch):
        monkeypatch.delenv("GENIC_DATA", raising=False)
        settings = ["preset=nano", "train.batches=1", "train.validate_every=0", "train.panels_every=0"]
        places = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "results")]
        monkeypatch.setattr(ablation, "pictures", _pictures(tmp_path))
        arguments = ["gdae_sprc", "ablation", *settings, "--bpp", "3", *places]
        assert tables.main(arguments) == 0
        text = (tmp_path / "results/gdae_sprc/tiny/ablation.md").read_text()
        rows = [line for line in text.splitlines() if line.startswith("| ✓")]
        assert len(rows) == 8 and "(33.77)" in rows[-1]
        assert text.count("AE < AE+DC") == 1 and text.count("\n- SPRC: ") == 4
        assert "10 : 5 : 2." in text and "no test of the slides" not in text
        assert len(list((tmp_path / "runs").glob("*/gdae_sprc/nano/last.safetensors"))) == 4

    def test_findings_of_other_loss_weights_are_no_test_of_the_slides(self):
        rows = [
            ablation.Row(*parts, Means(0.5, psnr, 0.9, 0.9, ms_ssim, 1.0, 1.0))
            for parts, (psnr, ms_ssim, _) in ablation.PUBLISHED.items()
        ]
        published = ablation.findings(rows, True)
        # The slides' own table has one pair in another order.
        (other,) = (line for line in published if "not found" in line)
        assert other.startswith("DC: AE+GAN < AE+DC+GAN") and "MS-SSIM not found (-0.25 dB)" in other
        gan = [line for line in ablation.findings(rows, False) if line.startswith("GAN")]
        assert len(gan) == 4 and all("no test of the slides" in line for line in gan)
        assert not any("no test" in line for line in published)

    def test_the_levels_are_compared_at_equal_budgets(self, module, tmp_path, monkeypatch):
        monkeypatch.delenv("GENIC_DATA", raising=False)
        path = tmp_path / "weights.safetensors"
        save_weights(path, module.export_weights(), module.metadata())
        monkeypatch.setattr(levels, "pictures", _pictures(tmp_path))
        arguments = ["gdae_sprc", "--codec", f"gdae_sprc:{path}", "--bpp", "0.3,1.5", "--out", str(tmp_path)]
        assert tables.main(arguments) == 0
        record = json.loads((tmp_path / "gdae_sprc/tiny/levels.json").read_text())
        rows, codec = record["rows"]["1.5"], GdaeSprcCodec.load(path)
        assert list(rows) == ["none", "0", "1"] and record["weights"] == codec.weights_id.hex()
        found = {name: row[0] for name, row in rows.items()}
        assert all(r["bytes"] <= 1.5 * 64 * 80 / 8 for r in found.values())
        assert "latents" not in found["none"]["ledger"] and "latents" in found["1"]["ledger"]
        # What the encoder chooses by itself is the best of these.
        best = max(found.values(), key=lambda r: r["psnr_rgb"])
        chosen = codec.encode(photograph(64, 80), target_bpp=1.5, strength=0.0)
        assert psnr_rgb(photograph(64, 80), codec.decode(chosen)) == pytest.approx(best["psnr_rgb"])
        text = (tmp_path / "gdae_sprc/tiny/levels.md").read_text()
        assert text.count("1 of 1") + text.count("0 of 1") == 6 and text.count("best of these") == 2

    def test_restored_files_are_compared_with_hevc_at_equal_bytes(self, restoring, tmp_path, monkeypatch):
        monkeypatch.delenv("GENIC_DATA", raising=False)
        path = tmp_path / "weights.safetensors"
        save_weights(path, restoring.export_weights(), restoring.metadata())
        monkeypatch.setattr(restored, "pictures", _pictures(tmp_path))
        monkeypatch.setattr(restored, "measured", _measured_here)
        given = ["--codec", f"gdae_sprc:{path}", "--bpp", "1.5", "--level", "none", "--out", str(tmp_path)]
        assert tables.main(["gdae_sprc", "restored", *given]) == 0
        plain, chosen = json.loads((tmp_path / "gdae_sprc/tiny/restored.json").read_text())["rows"]
        assert (plain["restored"], plain["latents"], chosen["latents"]) == (0.0, 0.0, 0.0)
        assert chosen["files"][0]["psnr_rgb"] >= plain["files"][0]["psnr_rgb"]
        for row in (plain, chosen):
            assert abs(row["hevc"][0] - row["files"][0]["psnr_rgb"]) < 2
            assert row["gain"] == [pytest.approx(row["files"][0]["psnr_rgb"] - row["hevc"][0])] * 3
        assert "| restored |" in (tmp_path / "gdae_sprc/tiny/restored.md").read_text()

    def test_hevc_is_taken_between_its_files(self):
        a, b = (_result(size, psnr, {}) for size, psnr in ((1000, 30.0), (4000, 34.0)))
        assert restored.between(a, b, 2000) == pytest.approx(32.0)
        assert restored.between(a, a, 900) == 30.0

    def test_figure_and_timing(self, module, tmp_path, monkeypatch, capsys):
        path = tmp_path / "weights.safetensors"
        save_weights(path, module.export_weights(), module.metadata())
        for command in (figure, timing):
            monkeypatch.setattr(command, "pictures", _pictures(tmp_path))
        monkeypatch.setattr(GdaeSprcCodec, "heat", lambda self, image, **_: ramp(*image.shape[:2]))
        codec, out = ("--codec", f"gdae_sprc:{path}"), ("--out", str(tmp_path))
        assert tables.main(["gdae_sprc", "figure", *codec, "--bpp", "1.5", *out]) == 0
        text = (tmp_path / "gdae_sprc/tiny/figure.md").read_text()
        assert "| adaptive |" in text and "of 1." in text
        found = json.loads((tmp_path / "gdae_sprc/tiny/figure.json").read_text())["pictures"][0]
        assert found["adaptive"]["bytes"] <= found["uniform"]["bytes"] <= 1.5 * 64 * 80 / 8
        assert found["adaptive"]["whole"] > 20 and found["hot_share"] == pytest.approx(0.5, abs=0.02)
        assert read_image(tmp_path / "gdae_sprc/tiny/figure.png").std() > 20
        assert tables.main(["gdae_sprc", "timing", *codec, "--limit", "1", *out]) == 0
        printed = capsys.readouterr().out
        for part in ("encoder and quantiser", "decoder", "heat map", "residual to HEVC"):
            assert f"| {part} |" in printed


def _pictures(folder: Path):
    """A data set of one small picture, in place of `experiments.evaluate.pictures`."""
    from genic.datamodules.images import ImageItem, write_png

    path = folder / "tiny.png"
    write_png(path, photograph(64, 80))
    return lambda data, root, limit: ("tiny", [ImageItem("tiny.png", path)])


def _result(size: int, psnr: float, ledger: dict[str, int]) -> ImageResult:
    return ImageResult("tiny.png", size, 1.0, ledger, psnr, *(None,) * 5)


def _measured_here(_options: object, tasks: Sequence[Task]) -> list[ImageResult]:
    """`experiments.paper_tables.gdae_sprc.common.measured` without its processes."""
    results = []
    for task in tasks:
        codec, image = open_codec(task.codec), task.item.read()
        data = codec.encode(image, **task.wanted, **task.options)
        psnr = psnr_rgb(image, codec.decode(data))
        results.append(_result(len(data), psnr, Container.from_bytes(data).ledger()))
    return results


def _shared() -> Path:
    for root in (os.environ.get("GENIC_DATA"), Path(__file__).resolve().parents[2] / "shared"):
        if root is not None and (Path(root) / SHARED_WEIGHTS).is_file():
            return Path(root) / SHARED_WEIGHTS
    pytest.skip(f"neither $GENIC_DATA nor ../shared has {SHARED_WEIGHTS}")


def _compare_with_library(library, targets, classifier: GradCam, layer: torch.nn.Module) -> None:
    """Same heat as pytorch-grad-cam's on a photograph, at its size."""
    x = torch.from_numpy(photograph(224, 224)).permute(2, 0, 1)[None].float() / 255
    ours = F.interpolate(classifier.map(x)[None, None], (224, 224), mode="bilinear")[0, 0]
    network = classifier.classifier
    normalised = (x - network.mean) / network.std
    with torch.no_grad():
        c = int(network.network(normalised).argmax())
    network.requires_grad_(True)
    with library.GradCAM(model=network.network, target_layers=[layer]) as cam:
        theirs = cam(input_tensor=normalised, targets=[targets.ClassifierOutputTarget(c)])[0]
    network.requires_grad_(False)
    assert theirs.max() > 0.5
    # The library scales once more after resizing, where bilinear weights have lowered the peak.
    ours = (ours - ours.min()) / (ours.max() - ours.min())
    np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-3)
