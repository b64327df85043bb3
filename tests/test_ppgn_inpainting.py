"""Ablative compression: masks, coding, losses, the sampler against a hand computation, training, the schemes."""

from __future__ import annotations

import dataclasses
import json
import math
import zlib

import numpy as np
import pytest
import torch
from skimage import data
from torch import nn

from genic.datamodules.batch import Batch
from genic.datamodules.images import read_image, write_png
from genic.eval.metrics import measure
from genic.experiments import tables
from genic.experiments.config import load_config
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.errors import ConfigError, DamagedFileError, TargetError, WeightsError
from genic.lightning_modules.codec.random_words import random_normal
from genic.lightning_modules.codec.weights import save_weights
from genic.lightning_modules.entropy.coder import GaussianModels
from genic.lightning_modules.entropy.gaussian import build_tables
from genic.lightning_modules.ppgn_inpainting import masks
from genic.lightning_modules.ppgn_inpainting.ablations import shared_out
from genic.lightning_modules.ppgn_inpainting.assistants import boundary_loss, edge_loss, laplacian_of_gaussian
from genic.lightning_modules.ppgn_inpainting.config import (
    PpgnInpaintingConfig,
    PpgnInpaintingModel,
    PpgnInpaintingTraining,
)
from genic.lightning_modules.ppgn_inpainting.module import PpgnInpainting
from genic.lightning_modules.ppgn_inpainting.networks import Encoder, Features, FeedForward, Generator
from genic.lightning_modules.ppgn_inpainting.pixel_coding import (
    Av1Layer,
    decode_pixels,
    encode_pixels,
    quantised_pixels,
)
from genic.lightning_modules.ppgn_inpainting.sampling import Sampler
from genic.lightning_modules.ppgn_inpainting.schemes import (
    SCALES,
    SCHEMES,
    Blocks,
    BlocksRandom,
    EdgePixels,
    Parameters,
    Pixels,
    Sampling,
    Square,
    Thumbnail,
    scheme_of,
)
from genic.lightning_modules.ppgn_inpainting.system import ablate, from_pixels, in_tiles, smooth_fill
from genic.lightning_modules.registry import open_codec
from genic.losses.gan import softplus_discriminator, softplus_generator
from genic.losses.ssim import ssim


def photograph(height: int = 72, width: int = 88) -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[60 : 60 + height, 150 : 150 + width])


@pytest.fixture(scope="module")
def module() -> PpgnInpainting:
    torch.manual_seed(0)
    return PpgnInpainting(load_config("ppgn_inpainting", ["preset=nano"]).paper())


@pytest.fixture(scope="module")
def codec(module):
    return module.codec()


@pytest.fixture(scope="module")
def models() -> GaussianModels:
    return GaussianModels(build_tables())


class TestMasks:
    def test_the_square_is_central(self):
        mask = masks.central_square(20, 31, 9)
        assert mask.sum() == 81 and mask[5:14, 11:20].all()
        assert masks.central_square(5, 7, 100).sum() == 25

    def test_random_pixels(self):
        mask = masks.random_pixels(40, 50, 20, 1)
        assert mask.sum() == 20
        np.testing.assert_array_equal(mask, masks.random_pixels(40, 50, 20, 1))
        assert not np.array_equal(mask, masks.random_pixels(40, 50, 20, 2))
        assert masks.random_pixels(3, 3, 50, 0).all()

    def test_edges_lie_on_the_edge(self):
        image = np.zeros((40, 60, 3), np.uint8)
        image[:, 30:] = 200
        strength = masks.edge_strength(image)
        mask = masks.edge_pixels(strength, 40)
        assert mask.sum() == 40 and set(np.nonzero(mask)[1]) <= {29, 30}
        assert not masks.edge_pixels(masks.edge_strength(np.full((9, 9, 3), 7, np.uint8)), 5).any()
        grid = masks.edge_blocks(strength, 8, 5)
        assert grid.shape == (5, 8) and grid[:, 3].all() and grid.sum() == 5

    def test_far_blocks_keep_their_distance(self):
        near = np.zeros((12, 16), bool)
        near[:, 3] = True
        far = masks.far_blocks(near, 30, 0)
        assert far.sum() == 30 and not far[:, 2:5].any()
        np.testing.assert_array_equal(far, masks.far_blocks(near, 30, 0))
        crowded = masks.far_blocks(np.eye(4, dtype=bool), 3, 0)  # nowhere far: elsewhere at least
        assert crowded.sum() == 3 and not (crowded & np.eye(4, dtype=bool)).any()

    @pytest.mark.parametrize("shape", [(1, 1), (5, 9), (64, 48)])
    def test_a_mask_comes_back(self, shape):
        mask = np.random.default_rng(0).random(shape) < 0.2
        stream = masks.encode_mask(mask)
        np.testing.assert_array_equal(masks.decode_mask(stream, *shape), mask)
        with pytest.raises(DamagedFileError):
            masks.decode_mask(stream, shape[0] + 1, shape[1])

    def test_blocks_cost_far_less_than_their_pixels(self):
        strength = masks.edge_strength(data.astronaut())
        blocks = masks.encode_mask(masks.edge_blocks(strength, 16, 300))
        assert len(blocks) < 128  # 1 bit a block
        assert len(masks.encode_mask(masks.edge_pixels(strength, 20_000))) > 20 * len(blocks)


class TestPixelCoding:
    @pytest.mark.parametrize("count", [1, 5, 400, 6336])
    @pytest.mark.parametrize("step", [4, 24])
    def test_they_come_back_within_the_step(self, count, step, models):
        image = photograph()
        mask = masks.random_pixels(*image.shape[:2], count, 3)
        stream, escapes = encode_pixels(image, mask, step, models)
        decoded = decode_pixels(stream, escapes, mask, step, models)
        assert (decoded[~mask] == 0).all()
        error = np.abs(decoded[mask].astype(int) - image[mask])
        assert error.max() <= 2.5 * step and error.mean() < step
        np.testing.assert_array_equal(quantised_pixels(image, step)[mask], decoded[mask])

    def test_neighbours_help(self, models):
        smooth = np.linspace(0, 255, 100)[None, :, None].repeat(80, 0).repeat(3, 2).astype(np.uint8)
        noise = np.random.default_rng(0).integers(0, 256, smooth.shape).astype(np.uint8)
        mask = masks.random_pixels(80, 100, 2000, 0)
        sizes = [sum(map(len, encode_pixels(image, mask, 8, models))) for image in (smooth, noise)]
        assert sizes[0] < 0.3 * sizes[1]

    def test_damage(self, models):
        image = photograph()
        mask = masks.random_pixels(*image.shape[:2], 300, 3)
        stream, escapes = encode_pixels(image, mask, 8, models)
        for bad in (b"", stream[:3], bytes([99]) + stream[1:]):
            with pytest.raises(DamagedFileError):
                decode_pixels(bad, escapes, mask, 8, models)
        with pytest.raises(DamagedFileError):  # more pixels than the stream holds
            decode_pixels(stream[:40], escapes, np.ones(mask.shape, bool), 8, models)


class TestFill:
    def test_kept_pixels_stay_and_holes_are_between(self):
        x = torch.rand(1, 3, 37, 50)
        mask = (torch.rand(1, 1, 37, 50) < 0.05).float()
        filled = smooth_fill(x, mask)
        assert torch.allclose(filled * mask, x * mask, atol=1e-5)
        kept = x[(mask > 0).expand_as(x)]
        assert filled.min() >= kept.min() - 1e-4 and filled.max() <= kept.max() + 1e-4

    def test_a_constant_stays_and_nothing_gives_nothing(self):
        mask = torch.zeros(1, 1, 16, 24)
        assert (smooth_fill(torch.rand(1, 3, 16, 24), mask) == 0).all()
        mask[..., 3, 5] = 1
        torch.testing.assert_close(
            smooth_fill(torch.full((1, 3, 16, 24), 0.3), mask), torch.full((1, 3, 16, 24), 0.3)
        )

    def test_a_thumbnail_is_the_base(self):
        base, mask = torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
        torch.testing.assert_close(from_pixels(torch.rand(1, 3, 16, 16), mask, base).guess, base)


class TestLosses:
    def test_the_filter_is_the_laplacian_of_a_gaussian(self):
        """Against the closed form: for x² + y² the Laplacian is 4 everywhere, times σ²."""
        t = torch.arange(41.0) - 20
        picture = (t[:, None].square() + t.square())[None, None].repeat(1, 3, 1, 1)
        response = laplacian_of_gaussian(picture, 1.2)[0, 0, 15:26, 15:26]
        torch.testing.assert_close(response, torch.full_like(response, 4 * 1.2**2), rtol=0.02, atol=0)
        assert laplacian_of_gaussian(torch.full((1, 3, 20, 20), 0.7)).abs().max() < 1e-5

    def test_edges(self):
        x = torch.rand(2, 3, 24, 24)
        assert edge_loss(x, x) == 0
        flat = torch.full_like(x, 0.5)
        torch.testing.assert_close(edge_loss(flat, x), laplacian_of_gaussian(x).square().mean())

    def test_the_boundary_is_what_it_looks_at(self):
        kept, mask = torch.zeros(1, 3, 12, 12), torch.zeros(1, 1, 12, 12)
        mask[..., :6] = 1  # the border is column 5
        x_hat = torch.zeros_like(kept)
        x_hat[..., 6:] = 1
        x_hat[..., :3] = 1
        assert boundary_loss(x_hat, kept, mask) == 0
        x_hat[..., 5] = 0.25
        torch.testing.assert_close(boundary_loss(x_hat, kept, mask), torch.tensor(0.25))
        assert boundary_loss(x_hat, kept, torch.ones_like(mask)) == 0


class Toy:
    """G(h) is a 1×3×1×2 picture A·h, E(x) = B·x, C's logits are W·x: every gradient is a product of matrices."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.A, self.B, self.W = rng.normal(size=(6, 4)), rng.normal(size=(4, 6)), rng.normal(size=(3, 6))
        self.h, self.x = rng.normal(size=4), rng.normal(size=6)
        self.m = np.array([1, 0, 1, 0, 1, 0], float)  # the left column is kept, of [3, 1, 2]

    def tensors(self) -> tuple:
        def of(a, *shape):
            return torch.from_numpy(a).reshape(shape)

        def generate(h):
            return (of(self.A, 6, 4) @ h.reshape(4)).reshape(1, 3, 1, 2)

        def encode(x):
            h = (of(self.B, 4, 6) @ x.reshape(6)).reshape(1, 4, 1, 1)
            return Features(h, h, (of(self.W, 3, 6) @ x.reshape(6))[None])

        mask = torch.tensor([1.0, 0.0], dtype=torch.float64).reshape(1, 1, 1, 2)
        return of(self.h, 1, 4, 1, 1), encode, generate, of(self.x, 1, 3, 1, 2), mask

    def by_hand(self, s: PpgnInpaintingModel, y: int, step: int = 0) -> np.ndarray:
        generated = self.A @ self.h
        composite = self.m * self.x + (1 - self.m) * generated
        logits = self.W @ composite
        softmax = np.exp(logits) / np.exp(logits).sum()
        towards = s.epsilon1 * (self.B @ composite - self.h)
        by_class = self.A.T @ ((1 - self.m) * (self.W[y] - softmax @ self.W))
        context = self.A.T @ (self.m * (self.x - generated))
        noise = random_normal((1, 4, 1, 1), SEED * 65536 + step).reshape(4)
        return towards + s.epsilon2 * by_class + s.epsilon3 * noise + s.epsilon4 * context


SEED = 9


def settings(*epsilons: float, step_size: float, low: float = -9.0, high: float = 9.0) -> PpgnInpaintingModel:
    named = {f"epsilon{k}": value for k, value in enumerate(epsilons, 1)}
    return PpgnInpaintingModel(**named, step_size=step_size, h_low=low, h_high=high)


class TestSampler:
    SETTINGS = settings(0.3, 0.7, 0.05, 0.2, step_size=0.5, low=-1.5, high=2.0)

    @pytest.mark.parametrize("only", [None, "epsilon1", "epsilon2", "epsilon3", "epsilon4"])
    def test_the_direction_is_as_by_hand(self, only):
        names = ("epsilon1", "epsilon2", "epsilon3", "epsilon4")
        off = {} if only is None else {name: 0.0 for name in names if name != only}
        config, toy = dataclasses.replace(self.SETTINGS, **off), Toy()
        h, *others = toy.tensors()
        d = Sampler(config, *others, y=1, seed=SEED).direction(h, 0)
        np.testing.assert_allclose(d.numpy().reshape(4), toy.by_hand(config, 1), rtol=1e-6)

    def test_steps_are_normalised_and_decay_and_h_is_clipped(self):
        toy, c = Toy(), self.SETTINGS
        h, *others = toy.tensors()
        found = Sampler(c, *others, y=1, seed=SEED).sample(h, 4).numpy().reshape(4)
        toy.h = np.clip(toy.h, c.h_low, c.h_high)
        for step in range(4):
            d = toy.by_hand(c, 1, step)
            toy.h = np.clip(toy.h + 0.5 * (1 - step / 4) / np.abs(d).mean() * d, c.h_low, c.h_high)
        np.testing.assert_allclose(found, toy.h, rtol=1e-5)
        assert np.abs(found).max() <= 2.0

    def test_the_assistant_loss_descends(self):
        h, E, G, x, mask = Toy().tensors()
        target = torch.ones(1, 3, 1, 2, dtype=torch.float64)

        def loss(shown, generated):
            return (generated - target).square().sum()

        sampler = Sampler(settings(0, 0, 0, 0, step_size=0.05), E, G, x, mask, assistant=loss)
        assert loss(None, G(sampler.sample(h, 40))) < 0.5 * loss(None, G(h))

    def test_without_anything_to_do_h_stays(self):
        h, *others = Toy().tensors()
        torch.testing.assert_close(Sampler(settings(0, 0, 0, 0, step_size=1.0), *others).sample(h, 3), h)

    def test_the_context_comes_nearer_with_the_networks_themselves(self, module):
        torch.manual_seed(0)
        system, mask = module.system, (torch.rand(1, 1, 48, 48) < 0.5).float()
        E, G = system.encoder_for(module.E, 48, 48), system.generator_for(48, 48)
        config = settings(0, 0, 0, 1.0, step_size=0.1, low=-30, high=30)
        with torch.no_grad():
            h = E(torch.full((1, 3, 48, 48), 0.6)).h
            x = G(h + torch.randn_like(h))  # a picture that G can make
            before = (mask * (G(h) - x)).square().sum()
            after = (mask * (G(Sampler(config, E, G, x, mask).sample(h, 12)) - x)).square().sum()
        assert after < 0.8 * before


class TestNetworks:
    def test_the_published_generator(self):
        """The `paper` preset's G layer by layer, against nets/generator/noiseless of the released PPGN."""
        with torch.device("meta"):
            G = Generator(load_config("ppgn_inpainting", ["preset=paper"]).model)
            assert G(torch.empty(2, 4096, 1, 1)).shape == (2, 3, 256, 256)
        layers = [m for m in G.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
        found = [
            (type(m) is nn.ConvTranspose2d, m.in_channels, m.out_channels, m.kernel_size[0]) for m in layers
        ]
        assert found == [
            *[(False, 4096, 4096, 1)] * 3,  # defc7, defc6, defc5
            (True, 256, 256, 4),  # deconv5, from the 256×4×4 of defc5
            (False, 256, 512, 3),  # conv5_1
            (True, 512, 256, 4),  # deconv4
            (False, 256, 256, 3),  # conv4_1
            (True, 256, 128, 4),  # deconv3
            (False, 128, 128, 3),  # conv3_1
            (True, 128, 64, 4),  # deconv2
            (True, 64, 32, 4),  # deconv1
            (True, 32, 3, 4),  # deconv0, which makes the picture
        ]
        assert sum(isinstance(m, nn.LeakyReLU) and m.negative_slope == 0.3 for m in G.modules()) == 11

    def test_a_map_has_any_size(self, module):
        assert module.system.generator_for(35, 50)(torch.randn(1, 48, 3, 4)).shape == (1, 3, 35, 50)

    @pytest.mark.parametrize("size", [(1, 1), (7, 30), (64, 48)])
    def test_a_fresh_u_net_is_near_its_guess(self, size):
        torch.manual_seed(0)
        x = torch.rand(1, 3, *size)
        y = FeedForward([8, 8, 8], [1, 1, 1])(x, torch.zeros(1, 1, *size))
        assert y.shape == x.shape and 0 < (y - x).abs().mean() < 0.1

    def test_tiles_make_the_whole(self):
        torch.manual_seed(0)
        network = FeedForward([4, 4], [1, 1])
        x, plane = torch.rand(1, 3, 150, 131), torch.rand(1, 1, 150, 131)
        with torch.no_grad():
            torch.testing.assert_close(in_tiles(network, x, plane, 64), network(x, plane), atol=1e-5, rtol=0)
        assert network.reach < 64

    def test_noise_on_h1_reaches_h(self, module):
        x = torch.rand(1, 3, 48, 48)
        torch.manual_seed(0)
        clean, noisy, later = module.E(x), module.E(x, 0.5, 0.0), module.E(x, 0.0, 0.5)
        assert not torch.allclose(clean.h1, noisy.h1) and not torch.allclose(clean.h, noisy.h)
        assert torch.equal(clean.h1, later.h1) and not torch.allclose(clean.h, later.h)
        torch.testing.assert_close(
            module.E(x).logits, module.E.frozen.network((x - module.E.frozen.mean) / module.E.frozen.std)
        )

    def test_a_missing_module_or_classifier_is_named(self, monkeypatch, tmp_path):
        nano = load_config("ppgn_inpainting", ["preset=nano"]).model
        with pytest.raises(ConfigError, match=r"blocks\.99"):
            Encoder(dataclasses.replace(nano, h="blocks.99"))
        monkeypatch.setenv("GENIC_DATA", str(tmp_path))
        with pytest.raises(WeightsError, match="GENIC_DATA"):
            Encoder(load_config("ppgn_inpainting", ["preset=small"]).model)

    @pytest.mark.parametrize(
        ("part", "change"),
        [
            ("train", {"gan_loss": "x"}),
            ("train", {"parts": [1, 1]}),
            ("train", {"restore_scales": [0.4]}),
            ("train", {"restore_quality": [50, 8]}),
            ("model", {"after": [0]}),
            ("model", {"dense": [4096, 100]}),
            ("model", {"filler": []}),
            ("model", {"classifier_weights": "mine"}),
        ],
    )
    def test_values_out_of_range_are_named(self, part, change):
        made = {"model": PpgnInpaintingModel, "train": PpgnInpaintingTraining}[part](**change)
        with pytest.raises(ConfigError, match=rf"{part}\.{next(iter(change))}"):
            PpgnInpaintingConfig(**{part: made})


class Recorder:
    """Stands in for a module's logging and optimisers: what it logged, and the losses it would minimise."""

    def __init__(self, module: PpgnInpainting) -> None:
        self.logged: dict[str, float] = {}
        self.minimised: dict[str, torch.Tensor] = {}
        module.log = lambda name, value: self.logged.update({name: float(torch.as_tensor(value).detach())})
        module.log_dict = lambda values: [module.log(name, value) for name, value in values.items()]
        module.update = self.update

    def update(self, name, loss, clip=None, pause=None):
        if pause is None or not pause:
            self.minimised[name] = loss.detach()
        return torch.zeros(())


class TestTraining:
    def test_what_is_minimised_is_as_by_hand(self, module):
        """Every weight at work; losses from the definitions, networks and ablated crops from the module."""
        config = load_config("ppgn_inpainting", ["preset=nano", "train.parts=[2,2,2]"]).paper()
        weights = {
            "mse_weight": 3.0,
            "h1_weight": 0.5,
            "h_weight": 0.25,
            "adversarial_weight": 0.125,
            "fill_ssim_weight": 2.0,
            "fill_l1_weight": 0.75,
            "fill_edge_weight": 1.5,
            "fill_boundary_weight": 0.3,
            "fill_feature_weight": 0.6,
            "fill_adversarial_weight": 0.2,
            "noise_x": 0.0,
            "noise_h1": 0.0,
            "noise_h": 0.0,
        }
        torch.manual_seed(0)
        module = PpgnInpainting(
            dataclasses.replace(config, train=dataclasses.replace(config.train, **weights))
        )
        seen = Recorder(module)
        outputs, call = [], module.system.forward
        module.system.forward = lambda *a: outputs.append(call(*a)) or outputs[-1]
        x = torch.rand(6, 3, 48, 48)
        module.loss_step(module.ablations(Batch(x), 0))
        expected = {}
        for name, at, output in zip(("restorer", "filler"), (x[:2], x[2:4]), outputs, strict=True):
            shown, raw = output.picture
            beside = torch.cat((shown, output.ablated.guess), 1) - 0.5
            expected[name] = (
                2.0 * (1 - ssim(at, shown).mean())
                + 0.75 * (raw - at).abs().mean()
                + 1.5 * (laplacian_of_gaussian(shown) - laplacian_of_gaussian(at)).square().mean()
                + 0.2 * softplus_generator(module.D_f(beside))
            )
        kept = outputs[1].ablated
        features = (module.E(outputs[1].picture.x_hat).h1 - module.E(x[2:4]).h1).square().mean()
        expected["filler"] = expected["filler"] + 0.6 * features
        expected["filler"] = expected["filler"] + 0.3 * boundary_loss(
            outputs[1].picture.generated, kept.values, kept.mask
        )
        of_x = module.E(x[4:])
        x_hat = module.system.G(of_x.h)
        again = module.E(x_hat)
        expected["generator"] = (
            3.0 * (x_hat - x[4:]).square().mean()
            + 0.5 * (again.h1 - of_x.h1).square().mean()
            + 0.25 * (again.h - of_x.h).square().mean()
            + 0.125 * softplus_generator(module.D(x_hat - 0.5))
        )
        expected["discriminator"] = softplus_discriminator(module.D(x[4:] - 0.5), module.D(x_hat - 0.5))
        for name, value in expected.items():
            torch.testing.assert_close(seen.minimised[name], value.detach(), rtol=1e-4, atol=1e-6)
        total = sum(float(seen.minimised[name]) for name in ("restorer", "filler", "generator"))
        assert seen.logged["loss/total"] == pytest.approx(total, rel=1e-5)
        bits = torch.cat([output.rate for output in outputs])
        assert seen.logged["rate/bpp_estimated"] == pytest.approx(float(bits.mean()) / 48**2)

    def test_the_gate_pauses_either_and_a_pause_is_no_part_of_the_total(self, module):
        module = PpgnInpainting(module.config)
        seen, x = Recorder(module), torch.rand(1, 3, 48, 48)
        for ratio, expected in (
            (0.01, ["generator"]),
            (1.0, ["discriminator", "generator"]),
            (99.0, ["discriminator"]),
        ):
            seen.minimised.clear()
            module.ratio.fill_(ratio)
            total = module._generator_step(x)
            assert list(seen.minimised) == expected
            assert total == seen.minimised.get("generator", 0)
            assert 0.1 < float(module.ratio) < 10  # of this batch

    def test_few_crops_are_shared_out_again(self, module):
        x = torch.arange(2.0)[:, None, None, None].expand(2, 3, 4, 4)
        assert [part[0, 0, 0, 0].item() for part in shared_out(x, (1, 1, 1))] == [0.0, 1.0, 0.0]

    @pytest.mark.parametrize(
        "scheme", [Square(), Pixels(count=90), EdgePixels(count=90), Blocks(), BlocksRandom()]
    )
    @pytest.mark.parametrize("assist", [None, 1 / 8])
    def test_crops_are_ablated_as_files_are(self, codec, scheme, assist):
        """The same mask and the same kind of pixels as a file of the same scheme holds, and about its bits."""
        image = photograph(64, 64)
        scheme = dataclasses.replace(scheme, assist=assist)
        x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        found = ablate(x, [scheme], [30])
        container = Container.from_bytes(
            codec.encode(image, 8 * len(codec.encode(image, 2.0)) / 64**2, scheme=scheme)
        )
        p = Parameters.from_bytes(container.sections["parameters"], 64, 64)
        mask, _ = codec.kept_pixels(p, container.sections, 64, 64)
        if not isinstance(scheme, EdgePixels):  # fewer there where a picture has fewer edges
            np.testing.assert_array_equal(found.mask[0, 0].numpy() > 0, mask)
        error = (found.mask * (found.values - x)).abs().sum() / (3 * found.mask.sum())
        assert error < 0.06 and float(found.bits) > 100
        assert (assist is None) == torch.equal(found.guess, from_pixels(found.values, found.mask).guess)

    def test_a_thumbnail_is_ablated_as_files_are(self, codec):
        x = torch.rand(2, 3, 48, 40)
        found = ablate(x, [Thumbnail(1 / 2), Thumbnail(1 / 3)], [30, 30])
        assert found.mask is None and found.plane[:, 0, 0, 0].tolist() == pytest.approx([1 / 2, 1 / 3])
        assert found.bits[0] > found.bits[1] > 100


class TestParameters:
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_they_come_back(self, scheme):
        fields = {
            "square": {"side": 300},
            "pixels": {"count": 3000, "seed": 7, "step": 24},
            "edges": {"step": 9},
            "blocks": {"block": 16},
            "blocks_random": {"block": 8, "count": 200, "seed": 1},
            "selective": {"block": 32, "thumbnail": 3},
            "thumbnail": {"thumbnail": 1},
        }[scheme]
        sampled = {"sampling": Sampling(20, True, ("style", "content"), 812), "classifier": b"abcd"}
        for more in ({}, sampled | ({} if "seed" in fields else {"seed": 3})):
            p = Parameters(scheme, **fields, **more)
            written = p.to_bytes(40, 50)
            assert Parameters.from_bytes(written, 40, 50) == p
            for bad in (written + b"\0", written[:-1], b"", b"\x7f" + written[1:]):
                with pytest.raises(DamagedFileError):
                    Parameters.from_bytes(bad, 40, 50)
            with pytest.raises(DamagedFileError, match="size"):
                Parameters.from_bytes(written, 40, 51)


class TestParametersAreFixed:
    def test_golden_bytes(self):
        """What files of 40×50 pixels say, byte by byte; the format holds it."""
        sampled = {"sampling": Sampling(20, False, ("style",), None), "classifier": b"abcd"}
        for p, wanted in (
            (Parameters("thumbnail", 1), "0000a502"),
            (Parameters("square", side=300), "0100a500ac02"),
            (Parameters("blocks_random", block=8, count=200, seed=1), "0500a500c8010103"),
            (
                Parameters("pixels", 5, count=3, seed=7, step=24, **sampled),
                "8200a506030718140702ffff61626364",
            ),
        ):
            assert p.to_bytes(40, 50).hex() == wanted


class TestSchemes:
    def test_names_and_options_make_schemes(self):
        importance = np.zeros((4, 4))
        assert scheme_of("thumbnail", {"scale": 1 / 2, "search": True}) == Thumbnail(1 / 2, True)
        assert scheme_of("square", {"keep": 0.5, "steps": 0}) == Square(keep=0.5)
        found = scheme_of("blocks_random", {"far": 0.2, "steps": 3, "refine": False, "assistants": ["edge"]})
        assert found == BlocksRandom(far=0.2, sampling=Sampling(3, False, ("edge",)))
        assert scheme_of("selective", {"importance": importance}).importance is importance
        assert scheme_of(Blocks(), {}) == Blocks()

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_the_budget_is_used_and_kept(self, codec, scheme):
        image = photograph(120, 136)
        map_ = np.ones(image.shape[:2]) * (np.arange(136) < 60)
        options = {"importance": map_} if scheme == "selective" else {}
        data = codec.encode(image, 1.2, scheme=scheme, **options)
        limit = int(1.2 * image[..., 0].size / 8)
        assert len(data) <= limit
        if scheme != "square":  # a small square may be coded as well as it can be
            assert len(data) > 0.8 * limit
        assert codec.decode(data).shape == image.shape
        assert len(codec.encode(image, target_bytes=limit, scheme=scheme, **options)) <= limit
        with pytest.raises(TargetError, match="smallest"):
            codec.encode(image, target_bytes=20, scheme=scheme, **options)

    def test_kept_pixels_are_kept(self, codec):
        image = photograph(64, 64)
        square = codec.decode(codec.encode(image, 4.0, scheme="square", keep=0.5))
        inside = masks.central_square(64, 64, 32)
        error = (square.astype(float) - image) ** 2
        assert error[inside].mean() < 0.05 * error[~inside].mean()
        pixels = codec.encode(image, scheme="pixels", count=200, seed=3)
        mask = masks.random_pixels(64, 64, 200, 3)
        error = np.abs(codec.decode(pixels).astype(float) - image)
        assert error[mask].max() <= 2.5 * Pixels().step and len(pixels) < 700

    def test_a_thumbnail_beside_helps_single_pixels(self, codec):
        image = photograph(96, 96)
        plain, assisted = (
            measure(image, codec.decode(codec.encode(image, scheme="pixels", count=90, assist=a))).psnr_rgb
            for a in (None, 1 / 4)
        )
        assert assisted > plain + 1

    def test_the_search_is_never_worse(self, codec):
        image = photograph(64, 72)
        found = codec.encode(image, 0.8, search=True)
        for scale in (SCALES[0], SCALES[1]):
            one = codec.encode(image, 0.8, scale=scale)
            assert measure(image, codec.decode(found)).ssim >= measure(image, codec.decode(one)).ssim - 1e-9

    def test_detail_is_where_importance_is(self, codec):
        image = photograph(96, 96)
        importance = np.zeros((96, 96))
        importance[24:64, 24:64] = 1
        data = codec.encode(image, 2.0, scheme="selective", importance=importance, share=0.3)
        assert {"thumbnail", "mask", "residual"} < set(Container.from_bytes(data).ledger())
        error = ((codec.decode(data).astype(float) - image) ** 2).mean(2)
        base = ((codec.decode(codec.encode(image, 0.6)).astype(float) - image) ** 2).mean(2)
        assert error[importance > 0].mean() < 0.3 * base[importance > 0].mean()
        nothing = codec.encode(image, 2.0, scheme="selective", importance=0 * importance)
        assert codec.decode(nothing).shape == image.shape

    def test_importance_says_which_blocks(self, codec):
        image, importance = photograph(64, 64), np.zeros((64, 64))
        importance[:16, :32] = 1
        data = Container.from_bytes(
            codec.encode(image, 2.0, scheme="blocks", keep=1 / 8, block=8, importance=importance)
        )
        grid = masks.decode_mask(data.sections["mask"], 8, 8)
        assert grid.sum() == 8 and grid[:2, :4].all()

    def test_options_out_of_range(self, codec):
        image = photograph(32, 32)
        for options, words in (
            ({"scheme": "blobs"}, "blocks_random"),
            ({"scheme": "blocks", "seed": 256}, "0 to 255"),
            ({"steps": 3}, "kept pixels"),
            ({"scheme": "blocks", "seeds": 3}, "did you mean 'seed'"),
            ({"scheme": "blocks", "scale": 1 / 2}, "no option 'scale'"),
            ({"scheme": "blocks", "block": 12}, "power of 2"),
            ({"scheme": "blocks", "steps": 256}, "0 \\(no sampling\\) to 255"),
            ({"scheme": Blocks(), "keep": 0.5}, "keep"),
            ({"scheme": "blocks", "assistants": ["style"]}, "give steps"),
            ({"scheme": "blocks", "steps": 3, "assistants": ["colour"]}, "boundary"),
            ({"scale": 0.4}, "scale"),
            ({"scheme": "selective"}, "importance"),
            ({"scheme": "blocks", "importance": np.zeros((3, 3))}, "32×32"),
        ):
            with pytest.raises(ConfigError, match=words):
                codec.encode(image, **options)


class TestSampledFiles:
    @pytest.mark.parametrize("scheme", ["pixels", "blocks_random"])
    def test_every_loss_has_its_bytes_and_its_effect(self, codec, scheme):
        image = photograph(48, 64)
        options = {"scheme": scheme, "steps": 1} | ({"count": 60} if scheme == "pixels" else {})
        plain = codec.encode(image, 2.0, **options)
        pictures = {(): codec.decode(plain)}
        for names in (("edge",), ("style",), ("content",)):
            data = codec.encode(image, 2.0, assistants=names, **options)
            ledger = Container.from_bytes(data).ledger()
            assert ledger["edges" if names == ("edge",) else "latents"] > 20
            pictures[names] = codec.decode(data)
            assert np.array_equal(pictures[names], codec.decode(data))
        assert len({picture.tobytes() for picture in pictures.values()}) == 4
        everything = codec.encode(image, 2.0, assistants=("edge", "style", "content", "boundary"), **options)
        assert codec.decode(everything).shape == image.shape

    def test_another_process_may_hold_the_random_classifier(self, module, tmp_path):
        path = tmp_path / "weights.safetensors"
        save_weights(path, module.export_weights(), module.metadata())
        image, one = photograph(48, 48), module.codec()
        data = one.encode(image, 2.0, scheme="blocks", steps=2, refine=False)
        np.testing.assert_array_equal(open_codec(f"ppgn_inpainting:{path}").decode(data), one.decode(data))

    def test_the_seed_counts(self, module):
        codec, image = module.codec(), photograph(48, 48)
        codec.config = dataclasses.replace(codec.config, epsilon3=0.5)
        first, again, other = (codec.encode(image, 2.0, scheme="blocks", steps=2, seed=s) for s in (1, 1, 2))
        assert first == again and not np.array_equal(codec.decode(first), codec.decode(other))

    def test_another_classifier_is_refused(self, codec):
        image = photograph(48, 48)
        container = Container.from_bytes(codec.encode(image, 2.0, scheme="blocks", steps=2, label=5))
        p = Parameters.from_bytes(container.sections["parameters"], 48, 48)
        assert p.sampling.label == 5
        other = dataclasses.replace(p, classifier=b"none")
        container.sections["parameters"] = other.to_bytes(48, 48)
        with pytest.raises(WeightsError, match="classifier"):
            codec.decode(container.to_bytes())

    @pytest.mark.parametrize("section", ["edges", "latents", "mask", "kept_pixels"])
    def test_damaged_sections(self, codec, section):
        image = photograph(48, 48)
        names = ("edge", "style", "content")
        data = codec.encode(image, 6.0, scheme="blocks", steps=1, assistants=names)
        for change in (lambda s: b"", lambda s: s[: len(s) // 2]):
            container = Container.from_bytes(data)
            container.sections[section] = change(container.sections[section])
            with pytest.raises(DamagedFileError):
                codec.decode(container.to_bytes())


class TestAv1Layer:
    @pytest.mark.parametrize("limit", [0, 3, 400, 10**6])
    def test_the_finest_that_fits(self, limit):
        layer, image = Av1Layer(), photograph(48, 48)
        sizes = [len(layer.compress(image, quality)) for quality in (0, 90)]
        stream = layer.within(image, limit)
        if limit < sizes[0]:
            assert len(stream) == sizes[0]
        else:
            assert 0.9 * min(limit, sizes[1]) < len(stream) <= limit


class TestGolden:
    """Parts of the format that must never change."""

    def test_masks(self):
        rng = np.arange(40 * 56 * 3, dtype=np.uint64) * 2654435761 % 251
        image = rng.reshape(40, 56, 3).astype(np.uint8)
        image[:, 20:] //= 3
        found = {
            "square": masks.kept_by(Square(), image),
            "pixels": masks.kept_by(Pixels(seed=3), image, 50),
            "blocks_random": masks.kept_by(BlocksRandom(block=8, seed=4), image),
        }
        for name, kept in found.items():
            p = Parameters(name, **kept.named)
            np.testing.assert_array_equal(masks.mask_of(p, kept.section, 40, 56), kept.mask)
        packed = {name: zlib.crc32(np.packbits(kept.mask).tobytes()) for name, kept in found.items()}
        assert packed == {"square": 4163579410, "pixels": 3642442411, "blocks_random": 309049528}

    def test_the_kernel_and_the_order_of_pixels(self, models):
        """The predictor's integers decide every stream: the stream of a known picture, and back."""
        i, j = np.mgrid[:24, :32]
        image = np.stack((i * 9 % 256, j * 7, (i + j) * 4), -1).astype(np.uint8)
        mask = masks.random_pixels(24, 32, 150, 5)
        stream, escapes = encode_pixels(image, mask, 16, models)
        assert (zlib.crc32(stream), len(stream), escapes.hex()) == (3040313494, 118, "")
        np.testing.assert_array_equal(
            decode_pixels(stream, escapes, mask, 16, models)[mask], quantised_pixels(image, 16)[mask]
        )


@pytest.fixture(scope="module")
def arguments(module, tmp_path_factory):
    """Options of the tables: weights of preset nano and one small picture; and where the results go."""
    folder = tmp_path_factory.mktemp("table")
    save_weights(folder / "weights.safetensors", module.export_weights(), module.metadata())
    write_png(folder / "pictures" / "one.png", photograph(80, 96))
    options = ["--weights", str(folder / "weights.safetensors"), "--data", "folder"]
    return [*options, "--root", str(folder / "pictures"), "--out", str(folder / "out")], folder / "out"


class TestTable:
    def test_it_has_the_published_rows(self, arguments, capsys):
        options, out = arguments
        assert (
            tables.main(["ppgn_inpainting", "table", *options, "--crop", "80", "--steps", "1", "--quick"])
            == 0
        )
        text = (out / "table_80.md").read_text()
        for row in (
            "JPEG 1 ",
            "JPEG 50",
            "Pixel sampling + content loss",
            "Block+Random sampling",
            "B+R sampling + edge",
        ):
            assert text.count(f"| {row}") >= 1, row
        found = json.loads((out / "table_80.json").read_text())
        rows = {row["scheme"]: row for row in found["rows"]}
        assert sum(row["published"] is not None for row in rows.values()) == 13
        budget = rows["JPEG 1 % quality"]["mean"]["bpp"]
        for name, row in rows.items():
            if row["mean"] is not None and not name.startswith("JPEG"):
                assert row["mean"]["bpp"] <= budget and math.isfinite(row["mean"]["ssim"]), name
            assert (row["mean"] is None) == (row["failed"] > 0)
        assert rows["Thumbnail, restored"]["mean"] is not None

    def test_a_map_pays_inside_it(self, arguments):
        options, out = arguments
        assert tables.main(["ppgn_inpainting", "regions", *options, "--bpp", "2"]) == 0
        rows = json.loads((out / "regions.json").read_text())["rows"]
        assert rows["selective"][0] <= 2 and rows["selective"][1] > rows["thumbnail"][1] + 1

    def test_the_figure_has_a_column_a_scheme(self, arguments):
        options, out = arguments
        command = ["ppgn_inpainting", "figure", *options, "--crop", "80", "--steps", "0"]
        assert tables.main(command) == 0
        picture = read_image(out / "figure.png")
        assert picture.shape[1] > 6 * 200
        parts = [part for row in np.array_split(picture, 3) for part in np.array_split(row, 6, axis=1)]
        assert min(part.std() for part in parts) > 10  # none is empty
